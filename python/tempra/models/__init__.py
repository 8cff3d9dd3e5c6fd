"""Models: one decoder-only transformer that is GPT-2 or LLaMA by configuration, and its named
sizes."""
