//! Where a pipeline runs and for what, by the variables that its service sets.

use serde_json::Value;

/// A service that runs pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// GitHub Actions.
    GitHub,
    /// Gitea and Forgejo, which set GitHub's variables too.
    Gitea,
    /// GitLab CI.
    GitLab,
    /// A machine of one's own.
    None,
}

impl Provider {
    /// Its name, for summaries and programs.
    pub fn name(self) -> &'static str {
        match self {
            Provider::GitHub => "github",
            Provider::Gitea => "gitea",
            Provider::GitLab => "gitlab",
            Provider::None => "none",
        }
    }

    /// Whether lines such as `::error …` in the output are commands to it.
    pub fn has_commands(self) -> bool {
        matches!(self, Provider::GitHub | Provider::Gitea)
    }
}

/// Why a pipeline runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// For a pull request (or merge request).
    PullRequest {
        /// Its number.
        number: Option<String>,
    },
    /// For commits on a branch.
    Branch(String),
    /// For a tag.
    Tag(String),
    /// For none of these: by hand, by the clock, outside of a service.
    Other,
}

/// What is known of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where it runs.
    pub provider: Provider,
    /// Why.
    pub event: Event,
    /// The commit, when the service names one.
    pub commit: Option<String>,
    /// The repository's own branch.
    pub default_branch: Option<String>,
    /// Revisions that a plan may compare with, the best first.
    pub bases: Vec<String>,
}

/// Reads the variables. `file` reads a file that one of them names.
pub fn detect(variable: &dyn Fn(&str) -> Option<String>, file: &dyn Fn(&str) -> Option<String>) -> Run {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let on = |name: &str| set(name).is_some_and(|value| value == "true" || value == "1");
    if on("GITLAB_CI") {
        return gitlab(&set);
    }
    if on("GITHUB_ACTIONS") || on("GITEA_ACTIONS") || on("FORGEJO_ACTIONS") {
        let provider = if on("GITEA_ACTIONS") || on("FORGEJO_ACTIONS") { Provider::Gitea } else { Provider::GitHub };
        let payload = set("GITHUB_EVENT_PATH").and_then(|path| file(&path)).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        return actions(provider, &set, &payload);
    }
    Run { provider: Provider::None, event: Event::Other, commit: None, default_branch: None, bases: branches(None) }
}

fn actions(provider: Provider, set: &dyn Fn(&str) -> Option<String>, payload: &Value) -> Run {
    let told = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let default_branch = told("/repository/default_branch");
    let name = set("GITHUB_REF_NAME");
    let event = match (set("GITHUB_EVENT_NAME").as_deref(), set("GITHUB_REF_TYPE").as_deref(), name) {
        // A run of `pull_request_target` sees the target's files: it too must not apply what a stranger wrote.
        (Some("pull_request" | "pull_request_target" | "merge_group"), ..) => {
            let number = payload.pointer("/number").and_then(Value::as_u64).map(|number| number.to_string());
            let by_ref = || set("GITHUB_REF")?.strip_prefix("refs/pull/")?.split('/').next().map(str::to_owned);
            Event::PullRequest { number: number.or_else(by_ref) }
        }
        (_, Some("tag"), Some(name)) => Event::Tag(name),
        (Some("push" | "workflow_dispatch" | "schedule"), _, Some(name)) => Event::Branch(name),
        _ => Event::Other,
    };
    let target = set("GITHUB_BASE_REF");
    let mut bases: Vec<String> = told("/pull_request/base/sha").into_iter().collect();
    bases.extend(branches(target.or_else(|| default_branch.clone())));
    Run { provider, event, commit: set("GITHUB_SHA"), default_branch, bases }
}

fn gitlab(set: &dyn Fn(&str) -> Option<String>) -> Run {
    let default_branch = set("CI_DEFAULT_BRANCH");
    let event = match (set("CI_MERGE_REQUEST_IID"), set("CI_COMMIT_TAG"), set("CI_COMMIT_BRANCH")) {
        (Some(number), ..) => Event::PullRequest { number: Some(number) },
        (_, Some(tag), _) => Event::Tag(tag),
        (.., Some(branch)) => Event::Branch(branch),
        _ => Event::Other,
    };
    let mut bases: Vec<String> = set("CI_MERGE_REQUEST_DIFF_BASE_SHA").into_iter().collect();
    bases.extend(branches(set("CI_MERGE_REQUEST_TARGET_BRANCH_NAME").or_else(|| default_branch.clone())));
    Run { provider: Provider::GitLab, event, commit: set("CI_COMMIT_SHA"), default_branch, bases }
}

/// A branch as a checkout knows it: of the remote, else its own.
fn branches(name: Option<String>) -> Vec<String> {
    let names = name.map_or_else(|| vec!["main".to_owned(), "master".to_owned()], |name| vec![name]);
    names.iter().map(|name| format!("origin/{name}")).chain(names.iter().cloned()).collect()
}

impl Run {
    /// Whether it is for the branch that is deployed.
    pub fn deploys(&self, named: Option<&str>) -> bool {
        let Event::Branch(branch) = &self.event else { return false };
        match named.or(self.default_branch.as_deref()) {
            Some(deployed) => branch == deployed,
            None => branch == "main" || branch == "master",
        }
    }

    /// What it is for, in a few words.
    pub fn what(&self) -> String {
        match &self.event {
            Event::PullRequest { number: Some(number) } => format!("pull request #{number}"),
            Event::PullRequest { number: None } => "a pull request".to_owned(),
            Event::Branch(name) => format!("branch {name}"),
            Event::Tag(name) => format!("tag {name}"),
            Event::Other => "this directory".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(variables: &[(&str, &str)], payload: &str) -> Run {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        detect(&variable, &|path| (path == "/event").then(|| payload.to_owned()))
    }

    #[test]
    fn what_services_say_is_understood() {
        let github = [("GITHUB_ACTIONS", "true"), ("GITHUB_EVENT_PATH", "/event"), ("GITHUB_SHA", "abc")];
        let payload = r#"{"number": 7, "repository": {"default_branch": "trunk"}, "pull_request": {"base": {"sha": "123"}}}"#;
        let pull = run(&[&github[..], &[("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_BASE_REF", "trunk")]].concat(), payload);
        assert_eq!((pull.provider, pull.what().as_str(), pull.deploys(None)), (Provider::GitHub, "pull request #7", false));
        assert_eq!(pull.bases, ["123", "origin/trunk", "trunk"]);
        let push =
            [&github[..], &[("GITHUB_EVENT_NAME", "push"), ("GITHUB_REF_TYPE", "branch"), ("GITHUB_REF_NAME", "trunk"), ("GITEA_ACTIONS", "true")]].concat();
        let push = run(&push, payload);
        assert_eq!((push.provider, push.deploys(None), push.deploys(Some("release")), push.commit.as_deref()), (Provider::Gitea, true, false, Some("abc")));
        let tag = run(&[&github[..], &[("GITHUB_EVENT_NAME", "push"), ("GITHUB_REF_TYPE", "tag"), ("GITHUB_REF_NAME", "v1")]].concat(), "no JSON");
        assert_eq!((tag.event.clone(), tag.deploys(None)), (Event::Tag("v1".to_owned()), false));
        let of_stranger =
            run(&[&github[..], &[("GITHUB_EVENT_NAME", "pull_request_target"), ("GITHUB_REF_NAME", "main"), ("GITHUB_REF_TYPE", "branch")]].concat(), "");
        assert!(!of_stranger.deploys(None), "{of_stranger:?}");
        let gitlab = [("GITLAB_CI", "true"), ("CI_DEFAULT_BRANCH", "main"), ("CI_COMMIT_SHA", "abc")];
        let merge = [("CI_MERGE_REQUEST_IID", "3"), ("CI_MERGE_REQUEST_DIFF_BASE_SHA", "base"), ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main")];
        let merge = run(&[&gitlab[..], &merge].concat(), "");
        assert_eq!((merge.what().as_str(), merge.bases[0].as_str(), merge.deploys(None)), ("pull request #3", "base", false));
        assert!(run(&[&gitlab[..], &[("CI_COMMIT_BRANCH", "main")]].concat(), "").deploys(None));
        assert!(!run(&[&gitlab[..], &[("CI_COMMIT_BRANCH", "fix")]].concat(), "").deploys(None));
        let own = run(&[("CI", "true")], "");
        assert_eq!((own.provider, own.deploys(Some("main"))), (Provider::None, false));
        assert_eq!(own.bases, ["origin/main", "origin/master", "main", "master"]);
    }
}
