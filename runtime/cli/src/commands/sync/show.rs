//! How syncs look to a person.

use jiff::Timestamp;
use serde_json::Value;
use strake_sync::{Reason, Status, short};

use crate::output::{Paint, age, table};

/// The status of an object.
pub fn status_of(object: &Value) -> Status {
    serde_json::from_value(object["status"].clone()).unwrap_or_default()
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

fn ago(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| age(Timestamp::now().as_second() - time.as_second()))
}

fn revision(status: &Status) -> String {
    let Some(commit) = &status.last_applied_revision else { return "-".to_owned() };
    match &status.locked_tag {
        Some(tag) if tag.revision == *commit => format!("{}@{}", tag.name, short(commit)),
        _ => short(commit).to_owned(),
    }
}

/// A table.
pub fn list(objects: &[Value]) -> String {
    let row = |object: &Value| {
        let status = status_of(object);
        let ready = status.condition("Ready");
        let state = match ready.map(|ready| ready.status.as_str()) {
            _ if object["spec"]["suspend"] == true => "Paused",
            Some("True") => "True",
            Some("False") => "False",
            _ => "Unknown",
        };
        let message = ready.map_or_else(String::new, |ready| ready.message.lines().next().unwrap_or_default().chars().take(100).collect());
        let since = ago(ready.map(|ready| ready.last_transition_time));
        vec![text(object, "namespace").to_owned(), text(object, "name").to_owned(), state.to_owned(), revision(&status), since, message]
    };
    table(&["NAMESPACE", "NAME", "READY", "REVISION", "SINCE", "MESSAGE"], &objects.iter().map(row).collect::<Vec<_>>())
}

/// One, in full.
pub fn one(object: &Value) -> String {
    let paint = Paint::stdout();
    let status = status_of(object);
    let spec = &object["spec"];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![paint.bold(&format!("{}/{}", text(object, "namespace"), text(object, "name")))];
    let wanted: Vec<String> = spec["ref"].as_object().into_iter().flatten().map(|(kind, value)| format!("{kind} {}", word(value))).collect();
    let wanted = if wanted.is_empty() { "HEAD".to_owned() } else { wanted.join(", ").replacen("name ", "", 1) };
    lines.push(format!("repository  {}, {wanted}, folder {}, every {}", word(&spec["url"]), word(&spec["path"]), word(&spec["interval"])));
    lines.push(format!("runs        {} (for {})", revision(&status), ago(status.last_applied_time)));
    for condition in &status.conditions {
        let state = match (condition.r#type.as_str(), condition.status.as_str()) {
            ("Ready" | "Reported", "True") => paint.green(&condition.reason),
            ("Ready" | "Reported", "False") => paint.red(&condition.reason),
            _ => paint.yellow(&condition.reason),
        };
        lines.push(format!("{:<11} {state}: {} (for {})", condition.r#type.to_lowercase(), condition.message, ago(Some(condition.last_transition_time))));
    }
    if let Some(since) = status.failing_since {
        lines.push(format!("wrong since {since} ({}, {} in a row)", ago(Some(since)), status.failures));
    }
    if !status.history.is_empty() {
        let row = |entry: &strake_sync::Entry| {
            let name = entry.tag.clone().unwrap_or_default();
            let result = entry.reason.as_ref().map_or_else(|| entry.result.clone(), |reason| format!("{}: {reason}", entry.result));
            vec![ago(entry.completion_time), short(&entry.revision).to_owned(), name, result, entry.message.lines().next().unwrap_or_default().to_owned()]
        };
        lines.push(String::new());
        lines.push(table(&["AGO", "REVISION", "TAG", "RESULT", "MESSAGE"], &status.history.iter().map(row).collect::<Vec<_>>()));
    }
    if let Some(detail) = status.history.first().filter(|last| last.failed()).and_then(|last| last.detail.as_ref()) {
        lines.push(format!("\n{}", detail.trim_end()));
    }
    lines.join("\n")
}

/// What is wrong, with everything that helps.
pub fn failure(object: &Value) -> String {
    let status = status_of(object);
    let message = status.condition("Ready").map(|ready| ready.message.clone()).unwrap_or_default();
    let last = status.history.first().filter(|last| last.failed() && last.reason.as_deref() == status.condition("Ready").map(|ready| ready.reason.as_str()));
    match last.and_then(|last| last.detail.as_ref()) {
        Some(detail) => format!("{message}\n\n{}", detail.trim_end()),
        None => message,
    }
}

/// The commit that a moved tag means now.
pub fn moved_to(object: &Value) -> Option<String> {
    let status = status_of(object);
    status.has_reason(Reason::TagMoved).then_some(status.refused_revision).flatten()
}
