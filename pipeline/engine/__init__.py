"""Asking many requests at once: ledger first, then the gate, then the chat, every answer kept."""
