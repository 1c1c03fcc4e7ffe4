"""Building a data set: from a hyperlinked corpus to training records, stage by stage.

    corpus ─ walk ─ question ─ trajectory ─ sample

Every stage is a named backend (`ltrl.dataset.kinds`), works record by record from a seed of its own, and can be killed
at any moment: what was done is done.
"""
