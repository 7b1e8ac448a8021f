# Shortcuts for daily work; each is one line that can be typed by hand. CI runs `.ci/run`.

# Name the recipes.
default:
    @just --list

# Every test and doc test that needs no server; takes seconds once built.
test *ARGS:
    cargo test --locked {{ARGS}}

# The one test command: does its own set-up and runs everything.
test-all *ARGS:
    ./test {{ARGS}}

# Everything a change must pass.
ci:
    .ci/run

# Format the code.
fmt:
    cargo fmt --all

# Format and lints, as CI sees them.
lint:
    cargo fmt --all --check && cargo clippy --workspace --all-targets --locked -- -D warnings

# The library's documentation; a warning is an error.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# Write the expected files anew; read the difference before you commit it.
bless *ARGS:
    UPDATE_EXPECT=1 cargo test --locked {{ARGS}}

# How fast the engine is on this machine, at full durability.
bench *ARGS:
    cargo run --release --locked -- bench {{ARGS}}

# Remediate the example alert with the mock rollback.
run-example *ARGS:
    cargo run --release --locked -- run examples/alerts/alertmanager-firing.json --rollback-sleep 3s {{ARGS}}

# The machine as a table.
fsm:
    cargo run --locked -- fsm table

# Licences, advisories and sources of the dependencies (needs cargo-deny).
deny:
    cargo deny check
