"""Floor 6: the commands, a file for each verb or family of verbs; they talk through `client` and `service`."""
