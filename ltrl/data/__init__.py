"""Files of training records: read, checked, counted and looked at, without a GPU and in little memory."""
