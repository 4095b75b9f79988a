//! How the pods of a Deployment are replaced, when that is not left to its controller: step by step, or beside the old ones with a switch.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a Deployment's annotations say about its rollouts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// In which way.
    pub strategy: Strategy,
    /// In this order. The weights of a canary grow, and the last one is 100; a blue-green rollout switches exactly once.
    pub steps: Vec<RolloutStep>,
    /// What the new pods have to pass at each step, besides being ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
}

/// The way of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// New pods answer beside old ones, and become more.
    Canary,
    /// New pods get ready beside the old ones; then Services change over at once.
    BlueGreen,
}

impl Strategy {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Strategy::Canary => "canary",
            Strategy::BlueGreen => "blue-green",
        }
    }
}

/// A step of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutStep {
    /// So many of a hundred replicas are new.
    Weight(u8),
    /// So many milliseconds, or, with none, until somebody promotes it.
    Pause(Option<u64>),
    /// Services change over.
    Switch,
}

impl fmt::Display for RolloutStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RolloutStep::Weight(percent) => write!(f, "{percent}%"),
            RolloutStep::Pause(None) => f.write_str("pause"),
            RolloutStep::Pause(Some(millis)) if millis % 1000 == 0 => write!(f, "pause {}s", millis / 1000),
            RolloutStep::Pause(Some(millis)) => write!(f, "pause {millis}ms"),
            RolloutStep::Switch => f.write_str("switch"),
        }
    }
}

/// A check of the new pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// GET of an address.
    Http {
        /// None: every new pod is asked at its own address.
        host: Option<String>,
        /// Port.
        port: u16,
        /// Path with query.
        path: String,
        /// The status that is expected; none: any from 200 to 399.
        status: Option<u16>,
    },
    /// A command of `sh` in the first container of every new pod, which has to end with 0.
    Exec(String),
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Check::Http { host, port, path, status } => {
                write!(f, "http://{}:{port}{path}", host.as_deref().unwrap_or_default())?;
                status.map_or(Ok(()), |status| write!(f, " {status}"))
            }
            Check::Exec(command) => write!(f, "exec: {command}"),
        }
    }
}

impl fmt::Display for Rollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<String> = self.steps.iter().map(RolloutStep::to_string).collect();
        write!(f, "{}: {}", self.strategy.word(), steps.join(", "))?;
        self.check.as_ref().map_or(Ok(()), |check| write!(f, "; check {check}"))
    }
}
