//! Every file in `examples/alerts`, read and compared field by field.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at the first surprise")]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use expect_test::{Expect, expect};
use redress_ingest::{Options, Parsed, parse_alerts};
use redress_types::{Source, Status};

fn example(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/alerts");
    std::fs::read(folder.join(name)).unwrap()
}

/// One paragraph an alert.
fn show(parsed: &Parsed) -> String {
    let mut out = format!("{:?}, {} truncated\n", parsed.kind, parsed.truncated);
    for delivery in &parsed.deliveries {
        let alert = &delivery.alert;
        let status = match delivery.status {
            Status::Firing => "firing".to_owned(),
            Status::Resolved { ends_at } => format!("resolved at {ends_at}"),
        };
        writeln!(out, "{} {status}, {} {}", alert.id, alert.level, alert.severity).unwrap();
        writeln!(out, "  {} | {} | {:?}", alert.target(), alert.component, alert.version).unwrap();
        writeln!(out, "  {:?} since {}", alert.title, alert.alert_since).unwrap();
        writeln!(out, "  fingerprint {}", alert.fingerprint).unwrap();
        if let Some(metric) = &alert.metric {
            let (current, threshold) = (alert.current.unwrap(), alert.threshold.unwrap());
            writeln!(out, "  {metric} {current} over {threshold}: {:?}", alert.suggested_action).unwrap();
        }
        for (name, value) in &alert.labels {
            writeln!(out, "  {name} = {value}").unwrap();
        }
    }
    out
}

fn check(name: &str, expected: Expect) {
    expected.assert_eq(&show(&parse_alerts(&example(name), &Options::default()).unwrap()));
}

#[test]
fn one_message() {
    check(
        "message.json",
        expect![[r#"
        Message, 0 truncated
        checkout-5xx-20261121-0245 firing, P0 critical
          production/checkout | payment-gateway | "v2.8.0"
          "checkout answers 5xx to 12 % of requests" since 2026-11-21T02:45:08.541Z
          fingerprint d2f7a509ca3ffe7a4212ed8bc503cbab461aff5f39320816dd306176e383116f
          http_error_ratio 0.12 over 0.01: Some("roll back to v2.7.3")
          alertname = HighErrorRate
          deploy_id = dep-20261121-007
          environment = production
          instance = checkout-0:8080
    "#]],
    );
}

#[test]
fn a_list_of_messages() {
    check(
        "messages.json",
        expect![[r#"
        Messages, 0 truncated
        search-latency-0001 firing, P1 warning
          production/search | search | "v5.1.0"
          "search p95 latency is over 900 ms" since 2026-11-21T02:40:00Z
          fingerprint 3bebd9948ce2037fb4b256c50a10a65adf571e12c4ec21e180100ec0d2136cd6
          alertname = HighLatency
          deploy_id = dep-20261121-003
          environment = production
        cart-restarts-0001 firing, Warning warning
          staging/cart | cart | "v1.9.4"
          "cart restarts again and again" since 2026-11-21T02:41:30Z
          fingerprint 20a2076bc36e535fcc5e917345367d15bc350ddc63c131b74154186b35f6f71b
          alertname = CrashLooping
          deploy_id = dep-20261121-004
          env = staging
          level = urgent
        mail-queue-0001 firing, P2 warning
          default/mail | mail | ""
          "The mail queue grows" since 2026-11-21T02:44:00Z
          fingerprint bfb25cc2bf5b6bd489843395c2a1f5790b204a7edc2ad4a191806542c9a05ad3
          alertname = QueueGrowing
          deploy_id = dep-20261121-005
    "#]],
    );
}

#[test]
fn alertmanager_firing() {
    check(
        "alertmanager-firing.json",
        expect![[r#"
        Webhook, 0 truncated
        b0f25eccdaefc05c-1795229108541 firing, Warning critical
          default/serviceA | serviceA | "v1.4.2"
          "HighRequestLatency on host-0:9100" since 2026-11-21T02:45:08.541Z
          fingerprint b9a4aed33978a12e32f7ccccf1171c3efd8588005c19fdb06735641721366e61
          alertname = HighRequestLatency
          am_fingerprint = b0f25eccdaefc05c
          deploy_id = dep-20260711-001
          generatorURL = http://prometheus.invalid/graph?g0.expr=HighRequestLatency
          groupKey = {}:{alertname="HighRequestLatency", service="serviceA"}
          idc = yzh
          instance = host-0:9100
          service = serviceA
          service_version = v1.4.2
          severity = critical
        5a9828c4a29547cf-1795229108541 firing, Warning critical
          default/serviceA | serviceA | "v1.4.2"
          "HighRequestLatency on host-1:9100" since 2026-11-21T02:45:08.541Z
          fingerprint dc656083b4f04acdedcf41b78a46aac474693c9cd3950dfdc018b59f90eaa3b1
          alertname = HighRequestLatency
          am_fingerprint = 5a9828c4a29547cf
          deploy_id = dep-20260711-001
          generatorURL = http://prometheus.invalid/graph?g0.expr=HighRequestLatency
          groupKey = {}:{alertname="HighRequestLatency", service="serviceA"}
          idc = yzh
          instance = host-1:9100
          service = serviceA
          service_version = v1.4.2
          severity = critical
        ab089cc8478f6b7e-1795229108541 firing, Warning critical
          default/serviceA | serviceA | "v1.4.2"
          "HighRequestLatency on host-2:9100" since 2026-11-21T02:45:08.541Z
          fingerprint 08251cf3d66314611efc4be2693ec96dc88661550aaf74c71dfc88cea2a5712e
          alertname = HighRequestLatency
          am_fingerprint = ab089cc8478f6b7e
          deploy_id = dep-20260711-001
          generatorURL = http://prometheus.invalid/graph?g0.expr=HighRequestLatency
          groupKey = {}:{alertname="HighRequestLatency", service="serviceA"}
          idc = yzh
          instance = host-2:9100
          service = serviceA
          service_version = v1.4.2
          severity = critical
    "#]],
    );
}

#[test]
fn alertmanager_mixed_goes_by_each_alerts_own_status() {
    check(
        "alertmanager-mixed.json",
        expect![[r#"
        Webhook, 0 truncated
        b0f25eccdaefc05c-1795229108541 resolved at 2026-11-21T02:45:25.554Z, Warning critical
          default/serviceA | serviceA | "v1.4.2"
          "HighRequestLatency on host-0:9100" since 2026-11-21T02:45:08.541Z
          fingerprint b9a4aed33978a12e32f7ccccf1171c3efd8588005c19fdb06735641721366e61
          alertname = HighRequestLatency
          am_fingerprint = b0f25eccdaefc05c
          deploy_id = dep-20260711-001
          generatorURL = http://prometheus.invalid/graph?g0.expr=HighRequestLatency
          groupKey = {}:{alertname="HighRequestLatency", service="serviceA"}
          idc = yzh
          instance = host-0:9100
          service = serviceA
          service_version = v1.4.2
          severity = critical
        5a9828c4a29547cf-1795229108541 firing, Warning critical
          default/serviceA | serviceA | "v1.4.2"
          "HighRequestLatency on host-1:9100" since 2026-11-21T02:45:08.541Z
          fingerprint dc656083b4f04acdedcf41b78a46aac474693c9cd3950dfdc018b59f90eaa3b1
          alertname = HighRequestLatency
          am_fingerprint = 5a9828c4a29547cf
          deploy_id = dep-20260711-001
          generatorURL = http://prometheus.invalid/graph?g0.expr=HighRequestLatency
          groupKey = {}:{alertname="HighRequestLatency", service="serviceA"}
          idc = yzh
          instance = host-1:9100
          service = serviceA
          service_version = v1.4.2
          severity = critical
        ab089cc8478f6b7e-1795229108541 firing, Warning critical
          default/serviceA | serviceA | "v1.4.2"
          "HighRequestLatency on host-2:9100" since 2026-11-21T02:45:08.541Z
          fingerprint 08251cf3d66314611efc4be2693ec96dc88661550aaf74c71dfc88cea2a5712e
          alertname = HighRequestLatency
          am_fingerprint = ab089cc8478f6b7e
          deploy_id = dep-20260711-001
          generatorURL = http://prometheus.invalid/graph?g0.expr=HighRequestLatency
          groupKey = {}:{alertname="HighRequestLatency", service="serviceA"}
          idc = yzh
          instance = host-2:9100
          service = serviceA
          service_version = v1.4.2
          severity = critical
        43a79261b5df0851-1795229108541 firing, Warning critical
          default/serviceA | serviceA | "v1.4.2"
          "HighRequestLatency on host-3:9100" since 2026-11-21T02:45:08.541Z
          fingerprint 055b83bbb0810bd57eeaa1f38d2910043e0455e4c2e58fff0c491fb99c3f7ab5
          alertname = HighRequestLatency
          am_fingerprint = 43a79261b5df0851
          deploy_id = dep-20260711-001
          generatorURL = http://prometheus.invalid/graph?g0.expr=HighRequestLatency
          groupKey = {}:{alertname="HighRequestLatency", service="serviceA"}
          idc = yzh
          instance = host-3:9100
          service = serviceA
          service_version = v1.4.2
          severity = critical
    "#]],
    );
}

#[test]
fn alertmanager_resolved() {
    check(
        "alertmanager-resolved.json",
        expect![[r#"
        Webhook, 0 truncated
        b0f25eccdaefc05c-1795229108541 resolved at 2026-11-21T02:45:35.558Z, Warning critical
          default/serviceA | serviceA | "v1.4.2"
          "HighRequestLatency on host-0:9100" since 2026-11-21T02:45:08.541Z
          fingerprint b9a4aed33978a12e32f7ccccf1171c3efd8588005c19fdb06735641721366e61
          alertname = HighRequestLatency
          am_fingerprint = b0f25eccdaefc05c
          deploy_id = dep-20260711-001
          generatorURL = http://prometheus.invalid/graph?g0.expr=HighRequestLatency
          groupKey = {}:{alertname="HighRequestLatency", service="serviceA"}
          idc = yzh
          instance = host-0:9100
          service = serviceA
          service_version = v1.4.2
          severity = critical
        5a9828c4a29547cf-1795229108541 resolved at 2026-11-21T02:45:35.558Z, Warning critical
          default/serviceA | serviceA | "v1.4.2"
          "HighRequestLatency on host-1:9100" since 2026-11-21T02:45:08.541Z
          fingerprint dc656083b4f04acdedcf41b78a46aac474693c9cd3950dfdc018b59f90eaa3b1
          alertname = HighRequestLatency
          am_fingerprint = 5a9828c4a29547cf
          deploy_id = dep-20260711-001
          generatorURL = http://prometheus.invalid/graph?g0.expr=HighRequestLatency
          groupKey = {}:{alertname="HighRequestLatency", service="serviceA"}
          idc = yzh
          instance = host-1:9100
          service = serviceA
          service_version = v1.4.2
          severity = critical
        ab089cc8478f6b7e-1795229108541 resolved at 2026-11-21T02:45:35.558Z, Warning critical
          default/serviceA | serviceA | "v1.4.2"
          "HighRequestLatency on host-2:9100" since 2026-11-21T02:45:08.541Z
          fingerprint 08251cf3d66314611efc4be2693ec96dc88661550aaf74c71dfc88cea2a5712e
          alertname = HighRequestLatency
          am_fingerprint = ab089cc8478f6b7e
          deploy_id = dep-20260711-001
          generatorURL = http://prometheus.invalid/graph?g0.expr=HighRequestLatency
          groupKey = {}:{alertname="HighRequestLatency", service="serviceA"}
          idc = yzh
          instance = host-2:9100
          service = serviceA
          service_version = v1.4.2
          severity = critical
        43a79261b5df0851-1795229108541 resolved at 2026-11-21T02:45:35.558Z, Warning critical
          default/serviceA | serviceA | "v1.4.2"
          "HighRequestLatency on host-3:9100" since 2026-11-21T02:45:08.541Z
          fingerprint 055b83bbb0810bd57eeaa1f38d2910043e0455e4c2e58fff0c491fb99c3f7ab5
          alertname = HighRequestLatency
          am_fingerprint = 43a79261b5df0851
          deploy_id = dep-20260711-001
          generatorURL = http://prometheus.invalid/graph?g0.expr=HighRequestLatency
          groupKey = {}:{alertname="HighRequestLatency", service="serviceA"}
          idc = yzh
          instance = host-3:9100
          service = serviceA
          service_version = v1.4.2
          severity = critical
    "#]],
    );
}

#[test]
fn alertmanager_truncated_says_how_many_are_missing() {
    check(
        "alertmanager-truncated.json",
        expect![[r#"
        Webhook, 3 truncated
        77f68696201b68ae-1795229108541 firing, Warning critical
          default/serviceA | serviceA | "v1.4.2"
          "TruncStorm on host-0:9100" since 2026-11-21T02:45:08.541Z
          fingerprint 4eae788d257b74bce185f81313be9962bd98db51d132ed8d32b2a49de4142d2e
          alertname = TruncStorm
          am_fingerprint = 77f68696201b68ae
          case = trunc
          generatorURL = http://prometheus.invalid/graph?g0.expr=TruncStorm
          groupKey = {}/{case="trunc"}:{alertname="TruncStorm"}
          idc = yzh
          instance = host-0:9100
          service = serviceA
          service_version = v1.4.2
          severity = critical
        dd6306893e1d6981-1795229108541 firing, Warning critical
          default/serviceA | serviceA | "v1.4.2"
          "TruncStorm on host-1:9100" since 2026-11-21T02:45:08.541Z
          fingerprint 24e17a73688a916c8ec44c4d4d07080c33187efbfdd5606803b3374a6f9b8c53
          alertname = TruncStorm
          am_fingerprint = dd6306893e1d6981
          case = trunc
          generatorURL = http://prometheus.invalid/graph?g0.expr=TruncStorm
          groupKey = {}/{case="trunc"}:{alertname="TruncStorm"}
          idc = yzh
          instance = host-1:9100
          service = serviceA
          service_version = v1.4.2
          severity = critical
    "#]],
    );
}

#[test]
fn a_firing_and_its_resolve_are_the_same_alert() {
    let read = |name| parse_alerts(&example(name), &Options::default()).unwrap().deliveries;
    let (firing, resolved) = (read("alertmanager-firing.json"), read("alertmanager-resolved.json"));
    for (a, b) in firing.iter().zip(&resolved) {
        assert_eq!(a.alert, b.alert);
        assert_ne!(a.status, b.status);
    }
}

#[test]
fn source_and_original_are_as_the_options_ask() {
    let source = Source::Webhook { repeat_interval: Duration::from_secs(240) };
    let options = Options { source, keep_original: true, ..Options::default() };
    for name in ["alertmanager-mixed.json", "messages.json", "message.json"] {
        let payload = String::from_utf8(example(name)).unwrap();
        let parsed = parse_alerts(payload.as_bytes(), &options).unwrap();
        let mut from = 0;
        for delivery in &parsed.deliveries {
            assert_eq!(delivery.source, source);
            let original = std::str::from_utf8(delivery.original.as_deref().unwrap()).unwrap();
            assert!(original.starts_with('{') && original.ends_with('}'));
            // Exactly as sent, and in the order sent.
            from += payload[from..].find(original).expect(name) + original.len();
        }
        let bare = parse_alerts(payload.as_bytes(), &Options::default()).unwrap();
        assert!(bare.deliveries.iter().all(|d| d.original.is_none() && d.source == Source::Native));
    }
}
