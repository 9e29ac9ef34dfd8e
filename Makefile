# Every target sets up what it needs; a second run re-uses it.
PYTHON311 ?= $(shell sh tools/find_python.sh 3.11)
PYTHON313 ?= $(shell sh tools/find_python.sh 3.13)
VENV := build/venv
VENV52 := build/venv-blender52
VENV42 := build/venv-blender42
RUN := $(VENV)/bin/python
# tests run in as many processes, each with one of torch's threads; a file's tests stay together
WORKERS ?= 2
PARALLEL := -n $(WORKERS) --dist loadfile
# the files with the fastest tests, for make check
QUICK := tests/shared \
	$(patsubst %,tests/backend/test_%.py,correspondence exports jobs launch method video) \
	$(patsubst %,tests/blender_addon/test_%.py,body_files character motion motion_edit motion_files operators passes rigs)

# what the other versions of Blender are tried with: all but files whose outcome no version changes, such as the numbers of motion
# files, translations, and processes of the backend and of the command line; make test-slow tries these, too
UNCHANGED := assembling backend_process bvh client command_line farm far_backend hostile_files motion_guesses motion_sources \
	motion_text processes reference_shots remote_render rig_families ring set_up skeleton_guesses translation trunk
OTHER_VERSIONS := tests/blender_addon $(patsubst %,--ignore=tests/blender_addon/test_%.py,$(UNCHANGED))

.PHONY: setup setup-blender42 setup-blender52 demo check test test-slow test-window bench docs docs-pictures lock audit torture extension release lint clean

setup: $(VENV)/.ready
setup-blender52: $(VENV52)/.ready
setup-blender42: $(VENV42)/.ready

PROJECT := setup.py tools/setup_env.py
FIND = @test -n "$($(1))" || { echo "Python $(2) is missing; install it, or name it with make $(1)=/path/to/python$(2)"; exit 1; }

$(VENV)/.ready: $(PROJECT) locks/development.txt
	$(call FIND,PYTHON311,3.11)
	$(PYTHON311) tools/setup_env.py $(VENV) development

$(VENV52)/.ready: $(PROJECT) locks/blender52.txt
	$(call FIND,PYTHON313,3.13)
	$(PYTHON313) tools/setup_env.py $(VENV52) blender52

# the oldest Blender that is supported
$(VENV42)/.ready: $(PROJECT) locks/blender42.txt
	$(call FIND,PYTHON311,3.11)
	$(PYTHON311) tools/setup_env.py $(VENV42) blender42

demo: setup
	$(RUN) -m tools.demo

lint: setup
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

check: lint
	OMP_NUM_THREADS=1 $(RUN) -m pytest $(PARALLEL) $(QUICK)

test: export OMP_NUM_THREADS = 1
test: lint setup-blender42
	$(RUN) -m pytest $(PARALLEL)
	LATENTMAN_PYTHON=$(abspath $(RUN)) $(VENV42)/bin/python -m pytest $(PARALLEL) $(OTHER_VERSIONS)
ifneq ($(PYTHON313),)
	$(MAKE) setup-blender52
	LATENTMAN_PYTHON=$(abspath $(RUN)) $(VENV52)/bin/python -m pytest $(PARALLEL) $(OTHER_VERSIONS) tests/shared
else
	@echo "No Python 3.13 here: the add-on's tests on Blender 5.2 were left out."
endif

# what takes seconds to minutes or gigabytes, such as installing torch into an empty environment; then all of the add-on's tests on
# the other versions of Blender
test-slow: export OMP_NUM_THREADS = 1
test-slow: setup setup-blender42
	$(RUN) -m pytest $(PARALLEL) -m slow
	LATENTMAN_PYTHON=$(abspath $(RUN)) $(VENV42)/bin/python -m pytest $(PARALLEL) -m "slow or not slow" tests/blender_addon tests/shared
ifneq ($(PYTHON313),)
	$(MAKE) setup-blender52
	LATENTMAN_PYTHON=$(abspath $(RUN)) $(VENV52)/bin/python -m pytest $(PARALLEL) -m "slow or not slow" tests/blender_addon tests/shared
endif

test-window: setup extension
	$(RUN) -m tools.window_test

# kills, damage, full disks and malformed messages, for a few minutes; docs/reliability.md holds the figures of a longer run
torture: setup
	$(RUN) -m tools.torture $(TORTURE)

bench: setup
	$(RUN) -m tools.bench $(BENCH)

# the documentation as a site in build/site; the tests build it, too
docs: setup
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet
	@echo "The site is in build/site: open build/site/index.html"

# the documentation's pictures of the window, from a real one; the check says which are older than the code
docs-pictures: setup extension
	$(RUN) -m tools.docs_pictures

# resolves pyproject.toml into locks/; UPGRADE=1 takes newer versions than those locked
lock:
	$(call FIND,PYTHON311,3.11)
	$(PYTHON311) tools/locks.py lock $(if $(UPGRADE),--upgrade)

# known vulnerabilities of what is locked; needs a connection to the database
audit:
	$(call FIND,PYTHON311,3.11)
	$(PYTHON311) tools/locks.py audit

extension: setup
	$(RUN) -m tools.package_extension

# zips, checksums, notes and a repository for Blender's Get Extensions, in build/release; from a committed tree
release: setup
	$(RUN) -m tools.docs_pictures --check
	$(RUN) -m tools.release $(if $(WEBSITE),--website $(WEBSITE))

clean:
	rm -rf build/lib build/site build/documented build/demo build/bench build/window build/extension build/release
