# The original's target names; everything else is an npm script (npm run) or "npx tidemark --help".
.DEFAULT_GOAL := help
.PHONY: quick-start start stop restart status loader logs test test-rapid validate docker-up docker-down install env prod-start clean help lint format-check code types sql

TIDEMARK := node dist/cli.js

# npm ci only where the lock file is newer than what is installed.
node_modules/.package-lock.json: package.json package-lock.json
	@npm ci --include=dev --no-audit --no-fund
	@touch $@

# Only where a source is newer than what was built.
dist/cli.js: node_modules/.package-lock.json $(shell find runner -name '*.ts')
	@npm run --silent build
	@touch $@

quick-start: dist/cli.js ## install, build, start the two servers, migrate, replay a morning of orders
	@$(TIDEMARK) db start
	@$(TIDEMARK) migrate
	@$(TIDEMARK) demo
	@echo && echo 'Look at it: npx tidemark console --open'

start: dist/cli.js ## run simulator, extractor and loader in the background (SIMULATE= leaves the simulator out)
	@$(TIDEMARK) start $(SIMULATE)

SIMULATE ?= --simulate

stop: dist/cli.js ## end them, each after what it has in hand
	@$(TIDEMARK) stop

restart: dist/cli.js ## stop and start again what was running
	@$(TIDEMARK) restart

status: dist/cli.js ## what runs, how far each table is, what went wrong
	@$(TIDEMARK) status

loader: dist/cli.js ## run the loader in this terminal until Ctrl-C
	@$(TIDEMARK) load --watch

logs: dist/cli.js ## follow the logs until Ctrl-C
	@$(TIDEMARK) logs -f

test: node_modules/.package-lock.json ## install, lint, and run the whole suite on PostgreSQL 18 and 15
	@npm run --silent lint
	@npm run --silent test

# What "npm run lint" runs, as many at once as make is told to.
lint: format-check code types sql
format-check:
	@npx --no-install prettier --log-level warn --check runner test bench *.ts *.js
code:
	@npx --no-install eslint .
types:
	@npm run --silent typecheck
sql:
	@npm run --silent lint:sql

test-rapid: node_modules/.package-lock.json ## many updates of few keys while the pipeline runs, then all checks
	@npm run --silent test:rapid

validate: dist/cli.js ## run all checks and write the lineage report
	@$(TIDEMARK) check
	@$(TIDEMARK) report

docker-up: ## the two databases in Docker instead of embedded
	@docker compose up -d --wait

docker-down: ## stop them; their data stays
	@docker compose down

install: dist/cli.js ## install dependencies and build

env: ## make .env from .env.example, unless there is one
	@if [ -e .env ]; then echo '.env is there already'; else cp .env.example .env && echo 'made .env from .env.example'; fi

prod-start: dist/cli.js ## run extractor and loader with the settings of .env.prod (see them with ENV_FILE=.env.prod make status)
	@ENV_FILE=.env.prod $(TIDEMARK) start

clean: ## remove what can be made again (dist, coverage, node_modules); asks before data and logs
	@for folder in data logs; do \
		[ -e $$folder ] || continue; \
		printf 'remove %s/, which cannot be made again? [y/N] ' $$folder; \
		read -r answer || { echo; answer=n; }; \
		case $$answer in y|Y|yes) ;; *) echo "kept $$folder/"; continue ;; esac; \
		[ ! -e dist/cli.js ] || { $(TIDEMARK) stop && $(TIDEMARK) db stop; } > /dev/null || exit 1; \
		rm -rf $$folder && echo "removed $$folder/"; \
	done
	@if ps -A -o pid=,args= 2> /dev/null | grep -F -e '$(CURDIR)/node_modules/' -e '$(CURDIR)/dist/cli.js' | grep -v grep; then \
		echo 'kept dist/ and node_modules/: these processes run programs of theirs. End them with "make stop" and "npm run db:stop", then clean again' >&2; \
		exit 1; \
	fi
	@rm -rf dist coverage node_modules

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
