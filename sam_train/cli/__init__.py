"""The commands. Everything heavy is imported when a command runs, so that ``--help`` answers at once."""
