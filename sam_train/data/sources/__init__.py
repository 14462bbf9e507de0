"""Where images and masks come from: each kind of data in a file of its own, behind one contract."""
