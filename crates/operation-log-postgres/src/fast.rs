//! One statement for a whole batch of appends: the common ones, each taken whole or left alone. What it leaves goes
//! through `append`, which gives every refusal its words.
//!
//! The statement is a transaction of its own, so a lone append is one round trip. It looks at everything as it stood
//! when it began, then locks the row of `meta` (`take_places`), which gives the positions, and writes. What others may
//! have changed in between is guarded: heads are compared once more when they are locked, claims, alert and operation
//! ids are unique, for switches and waiters `meta` counts the changes, and the session, the holds and the budgets are
//! looked at once more behind the lock. The parts of the SQL are in `sql`.

use std::collections::HashMap;

use redress_operation_log::{Append, Budget, Claim, Recorded};
use redress_types::Timestamp;
use sqlx::PgConnection;

use crate::append::is_coherent;
use crate::arrays::{Appends, Begins, Owes, Pays, Rights};
use crate::shared::{Query, Shared};
use crate::sql::Form;
use crate::values::{Columns, int, micros, text};

/// What a batch came to.
pub(crate) struct Taken {
    /// The answers, by place in the batch. Who is not in it was left alone.
    pub recorded: HashMap<usize, Recorded>,
    /// Something may have become due.
    pub woke: bool,
}

/// Whether the statement can take it at all. What it cannot is rare: a standing that waits for a claim, a further
/// run of an alert id, an ending that takes something.
pub(crate) fn fits(append: &Append) -> bool {
    let one_of = |kind| append.claims.iter().filter(|claim| claim.kind() == kind).count() <= 1;
    let begins = append.begin.as_ref().is_none_or(|begin| {
        append.expected_seq == 0 && append.standing.folded_request == 0 && begin.alert.base == begin.alert.id
    });
    // What an append takes is not there yet for the parts that free what an ending had.
    let ends = append.ends.is_none() || (append.claims.is_empty() && append.conditions.budgets.is_empty());
    begins
        && ends
        && is_coherent(append).is_ok()
        && append.standing.waits_on.is_none()
        && ["fingerprint", "sameness", "slot"].into_iter().all(one_of)
}

/// The claim of this kind among those of an append that [`fits`].
pub(crate) fn claim<'a>(append: &'a Append, kind: &str) -> Option<std::borrow::Cow<'a, str>> {
    append.claims.iter().find(|claim| claim.kind() == kind).map(Claim::key).map(text)
}

/// Runs the statement over appends of one session that [`fits`], no two of which are of one operation, alert or claim.
/// They are sorted by operation, so that two engines lock heads in one order. `switches` is how often switches had
/// changed when the writer last looked; when they have changed since, the statement is taken back.
pub(crate) async fn run(
    conn: &mut PgConnection,
    shared: &Shared,
    appends: &[&Append],
    switches: u64,
) -> Result<Taken, sqlx::Error> {
    let (mut all, mut rights, mut begins) = (Appends::default(), Rights::default(), Begins::default());
    let (mut owes, mut pays, mut bars) = (Owes::default(), Pays::default(), Bars::default());
    let session = appends.first().map_or(0, |append| int(append.session.0));
    for (n, append) in (1..).zip(appends) {
        all.push(n, append);
        rights.push(append);
        if let Some(begin) = &append.begin {
            begins.push(n, begin);
        }
        owes.push(n, append);
        pays.push(n, append);
        bars.push(n, append, switches);
    }
    let form = if !(owes.is_empty() && pays.is_empty() && bars.budgets.n.is_empty()) {
        Form::Owing
    } else if !begins.is_empty() {
        if all.follow() || rights.are_freed() { Form::Full } else { Form::Beginning }
    } else if rights.are_taken() || !bars.is_empty() {
        Form::Following
    } else if rights.are_freed() {
        Form::Ending
    } else {
        Form::Plain
    };
    // Each form names the parameters of those before it and some more.
    let mut query =
        sqlx::query(form.sql(appends.len() == 1)).bind(shared.clock()).bind(session).bind(int(switches));
    query = all.bind(query);
    if form >= Form::Ending {
        query = rights.bind(query);
    }
    if form >= Form::Following {
        query = bars.before.bind(query);
    }
    if form >= Form::Beginning {
        query = begins.bind(query);
    }
    if form == Form::Owing {
        query = pays.bind(owes.bind(bars.budgets.bind(query)));
    }
    // To its end: the statement is committed only then.
    let rows = query.fetch_all(conn).await?;
    let mut taken = Taken { recorded: HashMap::with_capacity(rows.len()), woke: false };
    for row in &rows {
        let mut row = Columns::of(row);
        let n: i32 = row.get()?;
        let (position, inbox, woken) = (row.count()?, row.count()?, row.count()?);
        let n = usize::try_from(n - 1).map_err(|error| row.wrong(error))?;
        taken.recorded.insert(n, Recorded { position, before: false, current: true, inbox, switches });
        taken.woke |= woken > 0 || appends.get(n).is_some_and(|append| rings(append));
    }
    Ok(taken)
}

/// Whether an append makes something due that others may wait for.
pub(crate) fn rings(append: &Append) -> bool {
    let standing = &append.standing;
    let due = !standing.held && standing.wake_at.is_some_and(|at| at <= append.now);
    !append.outbox.is_empty() || (append.ends.is_none() && due)
}

/// What must not be in the way.
#[derive(Default)]
struct Bars {
    before: Before,
    budgets: Budgets,
}

/// Holds, and switches where any was ever changed.
#[derive(Default)]
struct Before {
    holds: (Vec<i32>, Vec<String>, Vec<i64>),
    switches: (Vec<i32>, Vec<String>),
}

/// Shares of budgets.
#[derive(Default)]
struct Budgets {
    n: Vec<i32>,
    key: Vec<String>,
    at: Vec<i64>,
    /// Reservations after this moment count.
    after: Vec<i64>,
    window: Vec<i64>,
    room: Vec<i64>,
    /// How often a budget is asked for in this batch.
    asked: HashMap<String, i64>,
}

impl Bars {
    fn push(&mut self, n: i32, append: &Append, switches: u64) {
        let before = &mut self.before;
        for key in &append.conditions.holds {
            before.holds.0.push(n);
            before.holds.1.push(text(key).into_owned());
            before.holds.2.push(append.now.as_micros());
        }
        // Where none was ever changed, none is off; and that none was is looked at again with the positions.
        for key in append.conditions.switches.iter().filter(|_| switches > 0) {
            before.switches.0.push(n);
            before.switches.1.push(text(key).into_owned());
        }
        for budget in &append.conditions.budgets {
            self.budgets.push(n, append.now, budget);
        }
    }

    fn is_empty(&self) -> bool {
        self.before.holds.0.is_empty() && self.before.switches.0.is_empty() && self.budgets.n.is_empty()
    }
}

impl Before {
    /// 5 parameters.
    fn bind(self, query: Query<'_>) -> Query<'_> {
        let (holds, switches) = (self.holds, self.switches);
        query.bind(holds.0).bind(holds.1).bind(holds.2).bind(switches.0).bind(switches.1)
    }
}

impl Budgets {
    fn push(&mut self, n: i32, now: Timestamp, budget: &Budget) {
        let key = text(&budget.key).into_owned();
        // As if every earlier one of the batch were taken: who is left alone for that is looked at on its own.
        let asked = self.asked.entry(key.clone()).or_default();
        self.room.push(i64::from(budget.most) - *asked);
        *asked += 1;
        self.n.push(n);
        self.key.push(key);
        self.at.push(now.as_micros());
        self.after.push(now.minus(budget.window).as_micros());
        self.window.push(micros(budget.window));
    }

    /// 6 parameters.
    fn bind(self, query: Query<'_>) -> Query<'_> {
        let query = query.bind(self.n).bind(self.key).bind(self.at).bind(self.after);
        query.bind(self.window).bind(self.room)
    }
}
