//! The comment on an issue whose operation has ended: Markdown, in the configured language, filled from what the
//! log says was found and done.
//!
//! The fixed diagnosis belongs to the mock rollback, which has no diagnosis of its own; what happened is told
//! truly there too. Text from outside stands in it as one line without markup.

use std::time::Duration;

use redress_fsm::State;
use redress_operation_log::event::KnownBy;
use redress_operation_log::fold::{StepRecord, StepResult};
use redress_types::{Phase, show_duration};

use crate::facts::Facts;
use crate::text::inline;

/// The executor whose operations carry the fixed diagnosis.
const MOCK: &str = "mock_rollback";
/// The most characters of one detail.
const DETAIL_CHARS: usize = 200;
/// The most steps that are told one by one.
const STEPS: usize = 20;

/// The language of comments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum Language {
    /// Chinese.
    #[default]
    Zh,
    /// English.
    En,
}

impl Language {
    /// The text of this language.
    const fn of<'a>(self, zh: &'a str, en: &'a str) -> &'a str {
        match self {
            Self::Zh => zh,
            Self::En => en,
        }
    }
}

/// The comment.
pub(crate) fn render(facts: &Facts, language: Language) -> String {
    let l = language;
    let (kind, cause, advice) = diagnosis(facts, l);
    let colon = l.of("：", ": ");
    let mut text = String::new();
    text.push_str(l.of("## AI分析结果\n", "## Analysis\n"));
    text.push_str(&format!("**{}**{colon}{kind}\n", l.of("问题类型", "Problem type")));
    text.push_str(&format!("**{}**{colon}{cause}\n", l.of("根因分析", "Root cause")));
    text.push_str(&format!("**{}**{colon}\n", l.of("处理建议", "Suggestions")).replace(": \n", ":\n"));
    for line in advice {
        text.push_str(&format!("- {line}\n"));
    }
    text.push_str(&format!("**{}**{colon}{}", l.of("执行状态", "Execution status"), status(facts, l)));
    text
}

/// What kind of problem, why, and what to do.
fn diagnosis(facts: &Facts, l: Language) -> (String, String, Vec<String>) {
    if let Some((cause, confidence)) = &facts.diagnosis {
        let cause = inline(cause, DETAIL_CHARS);
        let why = if *confidence > 0.0 {
            let percent = (confidence.clamp(0.0, 1.0) * 100.0).round();
            format!(
                "{cause}{}",
                l.of("（置信度 {}%）", " (confidence {}%)").replace("{}", &percent.to_string())
            )
        } else {
            l.of("未知（置信度 0%）", "unknown (confidence 0%)").to_owned()
        };
        return (cause, why, advice(facts, l));
    }
    let plan = facts.operation.plan.as_ref();
    if plan.is_some_and(|plan| plan.plan.steps.iter().any(|step| step.executor == MOCK)) {
        return mock_diagnosis(l);
    }
    let kind = l.of("未诊断", "not diagnosed").to_owned();
    let why = l.of("未知：策略未要求诊断", "unknown: no diagnosis was asked for").to_owned();
    (kind, why, advice(facts, l))
}

/// The fixed text (contracts §4).
fn mock_diagnosis(l: Language) -> (String, String, Vec<String>) {
    let advice: [&str; 3] = match l {
        Language::Zh => ["增加数据库连接池大小", "优化数据库连接管理", "考虑读写分离缓解压力"],
        Language::En => [
            "Increase the size of the database connection pool",
            "Improve how database connections are managed",
            "Consider separating reads from writes to relieve the load",
        ],
    };
    let kind = l.of("非发版本导致的问题", "not caused by a release");
    let cause = l.of(
        "数据库连接池配置不足，导致大量请求无法获取数据库连接",
        "the database connection pool is too small, so many requests get no connection",
    );
    (kind.to_owned(), cause.to_owned(), advice.map(str::to_owned).to_vec())
}

fn advice(facts: &Facts, l: Language) -> Vec<String> {
    let alert = &facts.operation.alert;
    let service = inline(&alert.service, DETAIL_CHARS);
    let mut advice = Vec::new();
    if facts.operation.state == State::Restored {
        advice.push(l.of("持续观察 {} 的指标", "Keep watching the metrics of {}").replace("{}", &service));
    } else {
        let look =
            l.of("请人工检查 {}，处理后关闭此问题", "Look at {} and close this issue when it is settled");
        advice.push(look.replace("{}", &service));
    }
    if facts.verified.as_ref().is_some_and(|verified| !verified.independent) {
        let only = l.of(
            "恢复仅由执行器接口确认，建议核对服务本身",
            "Only the executor's API says that it is restored; look at the service itself",
        );
        advice.push(only.to_owned());
    }
    if let Some(suggested) = &alert.suggested_action {
        let suggested = inline(suggested, DETAIL_CHARS);
        advice.push(format!("{}{suggested}", l.of("告警来源建议：", "The source suggests: ")));
    }
    advice
}

/// What happened, on one line.
fn status(facts: &Facts, l: Language) -> String {
    let operation = &facts.operation;
    let mut parts = vec![outcome(operation.state, l).to_owned()];
    if operation.state != State::Restored
        && let Some(reason) = &operation.reason
    {
        parts.push(format!("{}{}", l.of("原因：", "reason: "), inline(reason, 2 * DETAIL_CHARS)));
    }
    if let Some(strategy) = &operation.strategy {
        let strategy = inline(strategy, DETAIL_CHARS);
        let attempt = operation.attempt.to_string();
        let told = match operation.attempt {
            0 => l.of("策略 {s}，未执行", "strategy {s}, nothing was done"),
            _ => l.of("策略 {s}，第 {n} 次尝试", "strategy {s}, attempt {n}"),
        };
        parts.push(told.replace("{n}", &attempt).replace("{s}", &strategy));
    }
    parts.extend(operation.steps.iter().take(STEPS).map(|record| step(record, l)));
    if let Some(more) = operation.steps.len().checked_sub(STEPS).filter(|more| *more > 0) {
        parts.push(l.of("另有 {} 个步骤", "{} more steps").replace("{}", &more.to_string()));
    }
    parts.extend(verification(facts, l));
    let name = operation.id.name(&operation.alert.fingerprint);
    parts.push(format!("{}{name}", l.of("操作 ", "operation ")));
    parts.join(l.of("；", "; "))
}

fn outcome(state: State, l: Language) -> &'static str {
    let (zh, en) = match state {
        State::Restored => ("已恢复", "Restored"),
        State::Failed => ("失败，需人工处理", "Failed, a person must look"),
        State::TimedOut => ("超时，需人工处理", "Timed out, a person must look"),
        State::Cancelled => ("已取消，需人工处理", "Cancelled, a person must look"),
        State::Skipped => ("未执行修复", "Nothing was done"),
        State::Received
        | State::Blocked
        | State::Diagnosing
        | State::AwaitingApproval
        | State::RollingBack
        | State::Verifying
        | State::Compensating
        | State::Suspended => ("正在处理中", "In progress"),
    };
    match l {
        Language::Zh => zh,
        Language::En => en,
    }
}

fn step(record: &StepRecord, l: Language) -> String {
    let kind = match record.key.phase {
        Phase::Compensation => l.of("补偿步骤 ", "compensation step "),
        Phase::Rollback | Phase::Verification | Phase::Outbox => l.of("步骤 ", "step "),
    };
    let result = match record.result {
        None => l.of("无结果", "without a result"),
        Some(StepResult::Succeeded(KnownBy::Answer)) => l.of("成功", "succeeded"),
        Some(StepResult::Succeeded(KnownBy::Probe)) => {
            l.of("成功（查询目标得知）", "succeeded (the target says so)")
        }
        Some(StepResult::Succeeded(KnownBy::Verdict)) => {
            l.of("成功（人工判定）", "succeeded (a person says so)")
        }
        Some(StepResult::Failed(_)) => l.of("失败", "failed"),
        Some(StepResult::Withdrawn) => l.of("未发出", "was not sent"),
        Some(StepResult::Abandoned) => l.of("已放弃", "was given up"),
    };
    let took = show_duration(Duration::from_millis(record.took_ms));
    let times = match record.tries {
        1 => l.of("1 次调用，用时 {t}", "1 try, {t}"),
        _ => l.of("{n} 次调用，用时 {t}", "{n} tries, {t}"),
    };
    let times = times.replace("{n}", &record.tries.to_string()).replace("{t}", &took);
    let (open, close) = (l.of("（", " ("), l.of("）", ")"));
    let name = inline(&record.step, DETAIL_CHARS);
    let mut text = format!("{kind}{name} {result}{open}{times}{close}");
    if !record.detail.is_empty() {
        text.push_str(&format!("{}{}", l.of("：", ": "), inline(&record.detail, DETAIL_CHARS)));
    }
    text
}

fn verification(facts: &Facts, l: Language) -> Option<String> {
    if let Some(verified) = &facts.verified {
        let by = match verified.independent {
            true => l.of("验证：由服务自身的检查确认", "verified by a check of the service itself"),
            false => l.of("验证：仅由执行器接口确认", "verified by the executor's API only"),
        };
        let passes = l.of("连续 {} 次通过", "{} in a row").replace("{}", &verified.passes.to_string());
        let detail = inline(&verified.detail, DETAIL_CHARS);
        return Some(format!("{by}{}{passes}{}{detail}", l.of("，", ", "), l.of("：", ": ")));
    }
    let (_, detail) = facts.operation.saw.as_ref()?;
    Some(format!("{}{}", l.of("检查所见：", "the checks saw: "), inline(detail, DETAIL_CHARS)))
}
