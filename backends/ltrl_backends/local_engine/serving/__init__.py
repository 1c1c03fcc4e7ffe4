"""A trained model over HTTP, as OpenAI's API asks for completions: `ltrl serve model`.

`serve` loads and listens, `app` answers, `requests` says what may be asked, `batch` runs the model on all that is under
way, `sampling` draws tokens, `text` turns them into words.
"""
