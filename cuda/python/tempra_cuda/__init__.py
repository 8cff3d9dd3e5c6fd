"""Carries libtempra_cuda.so for tempra, which finds it here; nothing to import."""
