"""Settings that make tools ask the broker: one file per family of tools, data only.

variables.py                      what `copilot-cred exec` sets and takes away
place.py                          what a recipe is written for: an address, an account, models
parts.py                          what one is made of, and how it is printed
agents editors libraries shells   the recipes
tools.py                          all of them, by name
"""
