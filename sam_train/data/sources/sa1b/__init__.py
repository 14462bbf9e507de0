"""Images with their masks in JSON beside them, in tars or folders, as SA-1B is published."""
