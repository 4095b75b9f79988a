//! What a Deployment's annotations say about its rollouts: canary or blue-green, in which steps, with which check.

use std::collections::BTreeSet;

use serde_json::Value;
use strake_plan::{Check, Rollout, RolloutStep as Step, Strategy};
use strake_source::{Diagnostic, Span, nearest};
use strake_words::GoDuration;

use crate::manifest::Manifest;
use crate::wishes::place;

const STRATEGY: &str = "strake.dev/strategy";
const STEPS: &str = "strake.dev/steps";
const CHECK: &str = "strake.dev/check";
const CODE: &str = "rollout-annotation";
/// The longest pause: a day.
const LONGEST_MILLIS: u64 = 24 * 60 * 60 * 1000;
/// Of a canary that names none.
const USUAL: [Step; 3] = [Step::Weight(20), Step::Weight(50), Step::Weight(100)];

/// Reads an object's annotations; what is wrong with them goes to `findings`.
pub(crate) fn rollout(manifest: &Manifest, others: &[Manifest], findings: &mut Vec<Diagnostic>) -> Option<Rollout> {
    let mut reader = Reader { manifest, findings };
    let strategy = reader.strategy()?;
    let steps = reader.steps(strategy);
    let check = match reader.text(CHECK) {
        Some(text) => Some(reader.checked(CHECK, check(&text))?),
        None => None,
    };
    reader.neighbours(strategy, others);
    Some(Rollout { strategy, steps: steps?, check })
}

struct Reader<'a> {
    manifest: &'a Manifest,
    findings: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn text(&self, key: &str) -> Option<String> {
        Some(self.manifest.value["metadata"]["annotations"][key].as_str()?.trim().to_owned())
    }

    fn wrong(&mut self, key: &str, message: impl Into<String>) {
        let span: Span = place(self.manifest, key);
        self.findings.push(Diagnostic::error(CODE, message).at(span));
    }

    fn checked<T>(&mut self, key: &str, read: Result<T, String>) -> Option<T> {
        read.map_err(|message| self.wrong(key, message)).ok()
    }

    fn strategy(&mut self) -> Option<Strategy> {
        let Some(word) = self.text(STRATEGY) else {
            for key in [STEPS, CHECK] {
                if self.text(key).is_some() {
                    self.wrong(key, format!("`{key}` says how a canary or blue-green rollout goes, and there is no `{STRATEGY}`"));
                }
            }
            return None;
        };
        let strategy = match word.as_str() {
            "canary" => Strategy::Canary,
            "blue-green" => Strategy::BlueGreen,
            "rolling" => return None,
            other => {
                let near = nearest(other, ["canary", "blue-green", "rolling"]).map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
                self.wrong(STRATEGY, format!("`{other}` is no strategy; there are canary, blue-green and rolling{near}"));
                return None;
            }
        };
        if (self.manifest.kind.group, self.manifest.kind.kind) != ("apps", "Deployment") {
            self.wrong(STRATEGY, format!("only a Deployment can be rolled out by {}, and this is a {}", strategy.word(), self.manifest.kind.kind));
            return None;
        }
        Some(strategy)
    }

    fn steps(&mut self, strategy: Strategy) -> Option<Vec<Step>> {
        let Some(text) = self.text(STEPS) else {
            return Some(if strategy == Strategy::Canary { USUAL.to_vec() } else { vec![Step::Switch] });
        };
        self.checked(STEPS, steps(&text, strategy))
    }

    /// What else of the set the rollout touches.
    fn neighbours(&mut self, strategy: Strategy, others: &[Manifest]) {
        let own = &self.manifest.id;
        let near = || others.iter().filter(|other| other.id.namespace == own.namespace);
        let taken = format!("{}-{}", own.name, strategy.word());
        if near().any(|other| other.id.kind == "Deployment" && other.id.name == taken) {
            self.wrong(STRATEGY, format!("the set has a deployment/{taken}, and the new pods of {} come from a Deployment of that name", own.name));
        }
        if strategy == Strategy::Canary {
            return;
        }
        let services: Vec<&Manifest> = near().filter(|other| other.id.kind == "Service" && selects(other, self.manifest)).collect();
        if services.is_empty() {
            self.wrong(STRATEGY, format!("a blue-green rollout switches Services, and none of the set selects the pods of {}", own.name));
        }
        for service in services {
            let shared: BTreeSet<&str> = near()
                .filter(|other| other.id != *own && other.pod_pointer().is_some() && selects(service, other))
                .map(|other| other.id.name.as_str())
                .collect();
            if let Some(other) = shared.first() {
                let message = format!("service/{} selects the pods of {other} too: a blue-green rollout would switch it away from them", service.id.name);
                self.wrong(STRATEGY, message);
            }
        }
    }
}

/// Whether a Service selects the pods of a workload.
fn selects(service: &Manifest, workload: &Manifest) -> bool {
    let Some(selector) = service.value["spec"]["selector"].as_object().filter(|selector| !selector.is_empty()) else { return false };
    workload.pod_labels().is_some_and(|labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value) && value != &Value::Null))
}

/// Reads steps, such as `10%, pause 30s, 50%, pause, 100%` or `pause 1m, switch, pause`.
fn steps(text: &str, strategy: Strategy) -> Result<Vec<Step>, String> {
    let words = text.split([',', '\n']).map(str::trim).filter(|word| !word.is_empty());
    let mut steps = words.map(step).collect::<Result<Vec<Step>, String>>()?;
    let weights: Vec<u8> = steps.iter().filter_map(|step| if let Step::Weight(weight) = step { Some(*weight) } else { None }).collect();
    let switches = steps.iter().filter(|step| **step == Step::Switch).count();
    match strategy {
        Strategy::Canary if switches > 0 => Err("`switch` is a step of blue-green; a canary has weights, such as 10%".to_owned()),
        Strategy::Canary if weights.is_empty() => Err("a canary needs a weight, such as 10%".to_owned()),
        Strategy::Canary if !matches!(steps.first(), Some(Step::Weight(_))) => {
            Err("a canary begins with a weight: before it there is nothing to wait for".to_owned())
        }
        Strategy::Canary => {
            if let Some(pair) = weights.windows(2).find(|pair| pair[0] >= pair[1]) {
                return Err(format!("weights grow, and {}% comes after {}%", pair[1], pair[0]));
            }
            if weights.last() != Some(&100) {
                steps.push(Step::Weight(100));
            }
            Ok(steps)
        }
        Strategy::BlueGreen if !weights.is_empty() => Err(format!("`{}%` is a step of a canary; blue-green has pauses and `switch`", weights[0])),
        Strategy::BlueGreen if switches > 1 => Err("a blue-green rollout switches once".to_owned()),
        Strategy::BlueGreen => {
            if switches == 0 {
                steps.push(Step::Switch);
            }
            Ok(steps)
        }
    }
}

fn step(word: &str) -> Result<Step, String> {
    if let Some(number) = word.strip_suffix('%') {
        return match number.trim().parse() {
            Ok(weight @ 1..=100) => Ok(Step::Weight(weight)),
            _ => Err(format!("`{word}` is no weight: a weight is a whole number from 1% to 100%")),
        };
    }
    match word.split_once(char::is_whitespace).unwrap_or((word, "")) {
        ("switch", "") => Ok(Step::Switch),
        ("pause", "") => Ok(Step::Pause(None)),
        ("pause", time) => {
            let time = GoDuration::parse(time.trim()).map_err(|error| format!("in `{word}`: {error}"))?;
            let millis = u64::try_from(time.nanos / 1_000_000).ok().filter(|millis| (1..=LONGEST_MILLIS).contains(millis));
            millis
                .map(|millis| Step::Pause(Some(millis)))
                .ok_or_else(|| format!("`{word}` is no pause: it takes from 1ms to 24h, or is `pause` for until somebody promotes it"))
        }
        _ => Err(format!("`{word}` is no step: a step is a weight (10%), `pause 30s`, `pause` or `switch`")),
    }
}

/// Reads a check: `http://HOST:PORT/PATH STATUS` or `exec: COMMAND`.
fn check(text: &str) -> Result<Check, String> {
    const FORM: &str = "a check is `http://HOST:PORT/PATH`, `http://:PORT/PATH` for each new pod itself, either with the status that is expected behind it, or `exec: COMMAND` in each new pod";
    if let Some(command) = text.strip_prefix("exec:") {
        let command = command.trim();
        return if command.is_empty() { Err(format!("`{text}` has no command: {FORM}")) } else { Ok(Check::Exec(command.to_owned())) };
    }
    if text.starts_with("https://") {
        return Err(format!("`{text}`: https is not asked; {FORM}"));
    }
    let Some(rest) = text.strip_prefix("http://") else { return Err(format!("`{text}` is no check: {FORM}")) };
    let (address, status) = rest.split_once(char::is_whitespace).map_or((rest, None), |(address, status)| (address, Some(status.trim())));
    let status = match status.map(str::parse::<u16>) {
        None => None,
        Some(Ok(status @ 100..=599)) => Some(status),
        Some(_) => return Err(format!("`{}` is no status: one is a number from 100 to 599", status.unwrap_or_default())),
    };
    let (authority, path) = address.find('/').map_or((address, "/"), |at| address.split_at(at));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port: &u16| *port > 0).ok_or_else(|| format!("`{port}` is no port in `{text}`"))?),
        None => (authority, 80),
    };
    let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if (host.is_empty() && authority.is_empty()) || host.contains('@') || !visible(authority) || !visible(path) {
        return Err(format!("`{text}` is no check: {FORM}"));
    }
    Ok(Check::Http { host: Some(host.to_owned()).filter(|host| !host.is_empty()), port, path: path.to_owned(), status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_and_completed() {
        let shown = |text: &str, strategy| steps(text, strategy).map(|steps| steps.iter().map(Step::to_string).collect::<Vec<_>>().join(", "));
        let canary = |text: &str| shown(text, Strategy::Canary);
        assert_eq!(canary("10%,pause 30s,50%,pause,100%").as_deref(), Ok("10%, pause 30s, 50%, pause, 100%"));
        assert_eq!(canary("25% , pause 1m30s, pause 1500ms").as_deref(), Ok("25%, pause 90s, pause 1500ms, 100%"));
        let green = |text: &str| shown(text, Strategy::BlueGreen);
        assert_eq!(green("pause 2h, switch, pause").as_deref(), Ok("pause 7200s, switch, pause"));
        assert_eq!(green("pause").as_deref(), Ok("pause, switch"));
        for (text, strategy, says) in [
            ("0%", Strategy::Canary, "from 1% to 100%"),
            ("101%", Strategy::Canary, "from 1% to 100%"),
            ("50%, 20%", Strategy::Canary, "20% comes after 50%"),
            ("pause", Strategy::Canary, "needs a weight"),
            ("pause, 10%", Strategy::Canary, "begins with a weight"),
            ("10%, switch", Strategy::Canary, "step of blue-green"),
            ("10%, pause 30", Strategy::Canary, "did you mean `30s`"),
            ("10%, pause 0s", Strategy::Canary, "no pause"),
            ("10%, pause 25h", Strategy::Canary, "no pause"),
            ("10%, wait 3s", Strategy::Canary, "`wait 3s` is no step"),
            ("10%, switch", Strategy::BlueGreen, "step of a canary"),
            ("switch, switch", Strategy::BlueGreen, "switches once"),
        ] {
            let said = shown(text, strategy).expect_err(text);
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    #[test]
    fn checks_are_read() {
        let http = |host: Option<&str>, port, path: &str, status| Ok(Check::Http { host: host.map(str::to_owned), port, path: path.to_owned(), status });
        assert_eq!(check("http://:8080/healthz"), http(None, 8080, "/healthz", None));
        assert_eq!(check("http://web.shop:81 204"), http(Some("web.shop"), 81, "/", Some(204)));
        assert_eq!(check("http://web/a?b=c"), http(Some("web"), 80, "/a?b=c", None));
        assert_eq!(check("exec: test -e /tmp/ok"), Ok(Check::Exec("test -e /tmp/ok".to_owned())));
        for text in
            ["", "exec:", "https://x/", "ftp://x", "http://", "http:///x", "http://:0/", "http://:99999/", "http://x/ ok", "http://x/ 700", "http://a@b/"]
        {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
