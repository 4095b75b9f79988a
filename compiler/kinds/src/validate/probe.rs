//! Probes and life cycle hooks.

use serde_json::{Map, Value};

use super::container::port_number;
use super::{Findings, child, items, names, number, text};
use crate::path::At;

pub(super) fn probe(probe: &Map<String, Value>, name: &str, at: &At<'_>, findings: &mut Findings) {
    handler(probe, &["exec", "grpc", "httpGet", "tcpSocket"], at, findings);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        findings.not_negative(&at.field(field), number(probe, field));
    }
    if name != "readinessProbe"
        && let Some(threshold) = number(probe, "successThreshold").filter(|threshold| !matches!(threshold, 0 | 1))
    {
        findings.invalid(&at.field("successThreshold"), threshold, "must be 1");
    }
    if let Some(seconds) = number(probe, "terminationGracePeriodSeconds") {
        if name == "readinessProbe" {
            findings.forbidden(&at.field("terminationGracePeriodSeconds"), "a readiness probe ends no container");
        } else if seconds < 1 {
            findings.invalid(&at.field("terminationGracePeriodSeconds"), seconds, "must be at least 1");
        }
    }
}

/// Exactly one way to ask.
pub(super) fn handler(holder: &Map<String, Value>, ways: &[&str], at: &At<'_>, findings: &mut Findings) {
    let given: Vec<&&str> = ways.iter().filter(|way| child(holder, way).is_some()).collect();
    match given[..] {
        [] => findings.required(at, format!("one of {} must be given", ways.join(", "))),
        [way] => {
            if let Some(inner) = child(holder, way) {
                action(inner, way, &at.field(way), findings);
            }
        }
        [first, second, ..] => findings.forbidden(&at.field(second), format!("only one can be given, and {first} is given already")),
    }
}

fn action(action: &Map<String, Value>, way: &str, at: &At<'_>, findings: &mut Findings) {
    match way {
        "exec" if action.get("command").and_then(Value::as_array).is_none_or(Vec::is_empty) => findings.required(&at.field("command"), ""),
        "grpc" => match number(action, "port") {
            Some(number) => port_number(number, &at.field("port"), findings),
            None => findings.required(&at.field("port"), ""),
        },
        "httpGet" | "tcpSocket" => {
            port(action.get("port"), &at.field("port"), findings);
            if way == "httpGet" {
                if text(action, "path").is_empty() {
                    findings.required(&at.field("path"), "");
                }
                findings.one_of(&at.field("scheme"), text(action, "scheme"), &["HTTP", "HTTPS"]);
                let headers_at = at.field("httpHeaders");
                for (index, header) in items(action, "httpHeaders") {
                    findings.check(&headers_at.index(index).field("name"), text(header, "name"), names::header_name);
                }
            }
        }
        _ => {}
    }
}

/// A port's number or its name.
pub(super) fn port(value: Option<&Value>, at: &At<'_>, findings: &mut Findings) {
    match value {
        Some(Value::Number(number)) => port_number(number.as_i64().unwrap_or(0), at, findings),
        Some(Value::String(name)) if !name.is_empty() => findings.check(at, name, names::port_name),
        _ => findings.required(at, "a port's number or name must be given"),
    }
}
