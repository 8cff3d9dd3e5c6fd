"""Text in, batches out: corpora, tokenizers, token files, sample order and batches."""
