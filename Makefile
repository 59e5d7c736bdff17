.PHONY: check lint types contracts test sweep versions format reference

check: lint types contracts test  ## what CI runs, without the sweep

lint:
	ruff check .
	ruff format --check .
	python .ci/check_words.py

types:
	mypy

contracts:
	lint-imports

test:
	pytest

sweep:  ## slow sweeps over many architectures
	pytest -m slow --timeout 1200

versions:  ## the tests with the lowest, with between and with the newest versions of the dependencies
	.ci/versions

format:
	ruff format .
	ruff check --fix .

reference:  ## docs/reference/ from the code
	python docs/reference/generate.py
