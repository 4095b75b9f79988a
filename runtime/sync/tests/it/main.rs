//! The decider and its two laws.

mod laws;
mod story;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use strake_sync::{Action, Event, Facts, Fetched, Memory, Refs, Spec, Status, Trouble, decide, learn};

/// A repository, a follower and a clock.
pub struct World {
    pub spec: Spec,
    pub generation: i64,
    pub request: Option<String>,
    pub accepted: Option<String>,
    pub status: Status,
    pub memory: Memory,
    pub now: Timestamp,
    pub refs: Result<Refs, Trouble>,
    pub fetch: Result<Fetched, Trouble>,
    pub deploy: Result<(String, bool), Trouble>,
    pub report: Result<(), String>,
    /// What somebody else has changed.
    pub drift: Option<String>,
}

/// A commit's id of one digit.
pub fn id(digit: char) -> String {
    digit.to_string().repeat(40)
}

/// What `refs/heads/main` means, and tags.
pub fn refs(main: char, tags: &[(&str, char)]) -> Refs {
    let tags = tags.iter().map(|(name, digit)| (format!("refs/tags/{name}"), id(*digit)));
    tags.chain([("refs/heads/main".to_owned(), id(main)), ("HEAD".to_owned(), id(main))]).collect()
}

pub fn spec(more: Value) -> Spec {
    let mut spec = json!({"url": "https://git.example/shop/web.git", "ref": {"branch": "main"}, "path": "deploy/", "interval": "1m"});
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    Spec::read(&json!({"apiVersion": "strake.dev/v1", "kind": "Sync", "metadata": {"name": "web", "namespace": "default"}, "spec": spec})).expect("it is valid")
}

impl World {
    pub fn new(more: Value) -> World {
        World {
            spec: spec(more),
            generation: 1,
            request: None,
            accepted: None,
            status: Status::default(),
            memory: Memory::default(),
            now: "2026-11-21T12:00:00Z".parse().expect("a time"),
            refs: Ok(refs('a', &[])),
            fetch: Ok(Fetched::default()),
            deploy: Ok(("1 created".to_owned(), true)),
            report: Ok(()),
            drift: None,
        }
    }

    pub fn facts(&self) -> Facts<'_> {
        Facts {
            name: "default/web",
            spec: &self.spec,
            generation: self.generation,
            request: self.request.as_deref(),
            accepted: self.accepted.as_deref(),
            status: &self.status,
            memory: &self.memory,
        }
    }

    pub fn tell(&mut self, event: Event) {
        (self.status, self.memory) = learn(&self.facts(), event, self.now);
    }

    /// Does what is decided; its name, or nothing when it rests.
    pub fn step(&mut self) -> Option<&'static str> {
        let action = decide(&self.facts(), self.now).action?;
        Some(match action {
            Action::Ask => {
                self.tell(Event::Asked(self.refs.clone()));
                "ask"
            }
            Action::Fetch(_) => {
                self.tell(Event::Fetched(self.fetch.clone()));
                "fetch"
            }
            Action::Deploy(_) => {
                self.tell(Event::Started);
                // An apply puts everything back.
                if self.deploy.is_ok() {
                    self.drift = None;
                }
                self.tell(Event::Deployed(self.deploy.clone()));
                "deploy"
            }
            Action::Check => {
                self.tell(Event::Checked(Ok(self.drift.clone())));
                "check"
            }
            Action::Report { commit, fate, .. } => {
                self.tell(Event::Reported(fate, commit, self.report.clone()));
                fate.as_str()
            }
        })
    }

    /// Everything that is to be done now, but for looking at the cluster.
    pub fn settle(&mut self) -> Vec<&'static str> {
        let mut done = Vec::new();
        while let Some(step) = self.step() {
            done.push(step);
            assert!(done.len() < 20, "it does not rest: {done:?}");
        }
        done.retain(|step| *step != "check");
        done
    }

    /// Lets time pass until there is something to do, then does it.
    pub fn wait(&mut self) -> Vec<&'static str> {
        let pause = decide(&self.facts(), self.now).wait.expect("there is a next time");
        self.now = self.now.checked_add(pause + Duration::from_millis(1)).expect("in range");
        self.settle()
    }

    /// As after `kill -9`: only the status is left.
    pub fn restart(&mut self) {
        self.memory = Memory::default();
        self.tell(Event::Changed);
    }

    pub fn ready(&self) -> (String, String) {
        let ready = self.status.condition("Ready").expect("it is always there");
        (ready.reason.clone(), ready.message.clone())
    }
}
