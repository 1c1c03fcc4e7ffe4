"""The backends that come with ltrl: one module or package each, registered like any third party's."""
