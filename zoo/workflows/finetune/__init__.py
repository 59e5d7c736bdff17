"""`zoo finetune`: options to recipe, recipe to session, session to run. Start reading in run.py."""
