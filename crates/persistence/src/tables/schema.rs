//! The tables' statements, as other systems expect them (contracts §4), and what must be there.

/// A table that the step needs.
pub(super) struct Table {
    pub name: &'static str,
    /// The columns that are read and written.
    pub columns: &'static str,
    pub postgres: &'static str,
    pub sqlite: &'static str,
    /// Indexes, the same in both.
    pub indexes: &'static [&'static str],
}

/// Parents first.
pub(super) const TABLES: [Table; 3] = [
    Table {
        name: "alert_issues",
        columns: "id, state, level, alert_state, title, labels, alert_since",
        postgres: "create table if not exists alert_issues (
    id varchar(64) primary key,
    state varchar(16) not null check (state in ('Open', 'Closed')),
    level varchar(32) not null,
    alert_state varchar(16) not null
        check (alert_state in ('Pending', 'InProcessing', 'Restored', 'AutoRestored')),
    title varchar(255) not null,
    labels json not null,
    alert_since timestamp(6) not null
)",
        sqlite: "create table if not exists alert_issues (
    id text primary key check (length(id) between 1 and 64),
    state text not null check (state in ('Open', 'Closed')),
    level text not null check (length(level) <= 32),
    alert_state text not null
        check (alert_state in ('Pending', 'InProcessing', 'Restored', 'AutoRestored')),
    title text not null check (length(title) <= 255),
    labels text not null check (json_valid(labels)),
    alert_since text not null
) strict",
        indexes: &[
            "create index if not exists alert_issues_state on alert_issues (state, level, alert_since)",
            "create index if not exists alert_issues_alert_state on alert_issues (alert_state, alert_since)",
        ],
    },
    Table {
        name: "alert_issue_comments",
        columns: "issue_id, create_at, content",
        postgres: "create table if not exists alert_issue_comments (
    issue_id varchar(64) not null references alert_issues (id),
    create_at timestamp(6) not null,
    content text not null,
    primary key (issue_id, create_at)
)",
        sqlite: "create table if not exists alert_issue_comments (
    issue_id text not null references alert_issues (id),
    create_at text not null,
    content text not null,
    primary key (issue_id, create_at)
) strict",
        indexes: &[],
    },
    Table {
        name: "service_states",
        columns: "service, version, report_at, resolved_at, health_state, alert_issue_ids",
        postgres: "create table if not exists service_states (
    service text not null,
    version text not null,
    report_at timestamp(6) not null,
    resolved_at timestamp(6),
    health_state varchar(16) not null check (health_state in ('Normal', 'Warning', 'Error')),
    alert_issue_ids text[] not null,
    primary key (service, version)
)",
        // A list of ids as JSON: SQLite has no arrays.
        sqlite: "create table if not exists service_states (
    service text not null,
    version text not null,
    report_at text not null,
    resolved_at text,
    health_state text not null check (health_state in ('Normal', 'Warning', 'Error')),
    alert_issue_ids text not null check (json_valid(alert_issue_ids)),
    primary key (service, version)
) strict",
        indexes: &[],
    },
];
