"""The trust handler: a Telepathy client that remembers keys, and answers with what it remembers."""
