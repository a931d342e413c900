"""One module for each command or group: parse, one call, one render."""
