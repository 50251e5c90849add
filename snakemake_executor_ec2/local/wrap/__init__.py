"""Corrections of moto, each where its subject is: what EC2 does and moto does not, or does otherwise."""
