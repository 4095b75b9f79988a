//! Rows of Jobs and CronJobs.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NAME, age, column, number, of_containers, selector, span, wide};

pub(super) const JOBS: &[Column] = &[
    NAME,
    column("Status", |job, _| status(job).into()),
    column("Completions", |job, _| completions(job).into()),
    column("Duration", duration),
    AGE,
    wide("Containers", |job, _| of_containers(&job["spec"]["template"]["spec"], "name")),
    wide("Images", |job, _| of_containers(&job["spec"]["template"]["spec"], "image")),
    wide("Selector", |job, _| selector(&job["spec"]["selector"])),
];

pub(super) const CRON_JOBS: &[Column] = &[
    NAME,
    column("Schedule", |cron, _| cron["spec"]["schedule"].clone()),
    column("Timezone", |cron, _| cron["spec"]["timeZone"].as_str().unwrap_or("<none>").into()),
    column("Suspend", |cron, _| if cron["spec"]["suspend"] == true { "True" } else { "False" }.into()),
    number("Active", |cron, _| cron["status"]["active"].as_array().map_or(0, Vec::len).into()),
    column("Last Schedule", |cron, now| match &cron["status"]["lastScheduleTime"] {
        Value::Null => "<none>".into(),
        time => age(time, now),
    }),
    AGE,
    wide("Containers", |cron, _| of_containers(&cron["spec"]["jobTemplate"]["spec"]["template"]["spec"], "name")),
    wide("Images", |cron, _| of_containers(&cron["spec"]["jobTemplate"]["spec"]["template"]["spec"], "image")),
    wide("Selector", |cron, _| selector(&cron["spec"]["jobTemplate"]["spec"]["selector"])),
];

/// The first of these conditions that holds; a Job without any is running.
fn status(job: &Value) -> &'static str {
    let conditions = job["status"]["conditions"].as_array();
    let holds = |name: &str| conditions.is_some_and(|list| list.iter().any(|condition| condition["type"] == name && condition["status"] == "True"));
    match () {
        () if holds("Complete") => "Complete",
        () if holds("Failed") => "Failed",
        () if !job["metadata"]["deletionTimestamp"].is_null() => "Terminating",
        () if holds("Suspended") => "Suspended",
        () if holds("FailureTarget") => "FailureTarget",
        () if holds("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Value) -> String {
    let succeeded = job["status"]["succeeded"].as_i64().unwrap_or(0);
    match (job["spec"]["completions"].as_i64(), job["spec"]["parallelism"].as_i64().unwrap_or(0)) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

/// From its start to its end, or to now.
fn duration(job: &Value, now: Timestamp) -> Value {
    let time = |field: &str| job["status"][field].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    match (time("startTime"), time("completionTime")) {
        (None, _) => "".into(),
        (Some(start), end) => span(end.unwrap_or(now).as_second() - start.as_second()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{completions, duration, status};
    use serde_json::json;

    #[test]
    fn rows_say_how_far_a_job_is() {
        let done = json!({"spec": {"completions": 3}, "status": {"succeeded": 3, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:02:05Z",
            "conditions": [{"type": "Complete", "status": "True"}]}});
        let now = "2026-01-01T01:00:00Z".parse().expect("a time");
        assert_eq!((status(&done), completions(&done), duration(&done, now)), ("Complete", "3/3".to_owned(), json!("2m5s")));
        let queue = json!({"spec": {"parallelism": 4}, "status": {"active": 4}});
        assert_eq!((status(&queue), completions(&queue), duration(&queue, now)), ("Running", "0/1 of 4".to_owned(), json!("")));
    }
}
