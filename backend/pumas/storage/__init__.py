"""The doors to the disk: SQLite, JSON state files, durable file operations, path rules and the owner lock."""
