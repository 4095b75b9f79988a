//! What people say about order, in the words of the tools that they come from: annotations of strake, cli-utils, kapp, Argo CD and Helm.

use strake_plan::{Hook, HookRun, Occasion, Phase, Wanted, kapp};
use strake_source::{Diagnostic, Span};

use crate::graph::{Pin, Stage};
use crate::manifest::Manifest;

/// strake's own.
pub(crate) const DEPENDS_ON: &str = "strake.dev/depends-on";
const HOOK: &str = "strake.dev/hook";
const HOOK_WEIGHT: &str = "strake.dev/hook-weight";
const HOOK_DELETE: &str = "strake.dev/hook-delete-policy";
const HOOK_RUN: &str = "strake.dev/hook-run";
const CLI_UTILS: &str = "config.kubernetes.io/depends-on";
const ARGO_WAVE: &str = "argocd.argoproj.io/sync-wave";
const ARGO_HOOK: &str = "argocd.argoproj.io/hook";
const ARGO_DELETE: &str = "argocd.argoproj.io/hook-delete-policy";
const HELM_HOOK: &str = "helm.sh/hook";
const HELM_WEIGHT: &str = "helm.sh/hook-weight";
const HELM_DELETE: &str = "helm.sh/hook-delete-policy";

/// An object that another one waits for, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// `None`: any group that has the kind.
    pub group: Option<String>,
    /// A kind in any of its forms (`Deployment`, `deployments`, `deploy`).
    pub kind: String,
    /// `None`: that of the object itself.
    pub namespace: Option<String>,
    pub name: String,
    pub state: Wanted,
}

/// A rule of kapp: this object before or after the members of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupRule {
    pub before: bool,
    pub group: String,
    pub span: Span,
}

/// What the annotations of an object say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    pub needs: Vec<(Need, Span)>,
    /// Groups of kapp that it belongs to.
    pub groups: Vec<String>,
    pub rules: Vec<GroupRule>,
    pub pin: Option<Pin>,
    pub hook: Option<Hook>,
    /// Other occasions than an apply at which it runs, with its weight.
    pub occasions: Vec<(Occasion, i64, Hook)>,
    /// It is for another occasion than an apply, and not a part of the plan.
    pub left_out: bool,
    pub findings: Vec<Diagnostic>,
}

/// The place of an annotation's value.
pub(crate) fn place(manifest: &Manifest, key: &str) -> Span {
    manifest.span(&format!("/metadata/annotations/{}", key.replace('~', "~0").replace('/', "~1")))
}

/// Whether an annotation calls an object a hook, well or badly.
pub(crate) fn has_hook(manifest: &Manifest) -> bool {
    let annotations = manifest.at("/metadata/annotations").and_then(serde_json::Value::as_object);
    annotations.is_some_and(|annotations| [HOOK, ARGO_HOOK, HELM_HOOK].iter().any(|name| annotations.contains_key(*name)))
}

/// Reads an object's annotations.
pub(crate) fn wishes(manifest: &Manifest) -> Wishes {
    let mut reader = Reader { manifest, wishes: Wishes::default() };
    if manifest.at("/metadata/annotations").is_some_and(|annotations| annotations.as_object().is_some_and(|map| !map.is_empty())) {
        reader.depends_on();
        reader.kapp();
        reader.hook();
    }
    reader.wishes
}

/// Reads `KIND/NAME` or `NAMESPACE/KIND/NAME`, with `=STATE` behind it.
pub(crate) fn need(text: &str) -> Result<Need, String> {
    let (path, state) = text.split_once('=').map_or((text, None), |(path, state)| (path.trim(), Some(state.trim())));
    let state = match state {
        None | Some("ready") => Wanted::Ready,
        Some("present") => Wanted::Present,
        Some("complete") => Wanted::Complete,
        Some(other) => return Err(format!("`{other}` is no state: a state is present, ready or complete")),
    };
    let parts: Vec<&str> = path.split('/').collect();
    let (namespace, kind, name) = match parts.as_slice() {
        [kind, name] => (None, *kind, *name),
        [namespace, kind, name] => (Some((*namespace).to_owned()), *kind, *name),
        _ => return Err(format!("`{text}` is neither KIND/NAME nor NAMESPACE/KIND/NAME")),
    };
    if kind.is_empty() || name.is_empty() || namespace.as_deref() == Some("") {
        return Err(format!("`{text}` is neither KIND/NAME nor NAMESPACE/KIND/NAME"));
    }
    let (kind, group) = kind.split_once('.').map_or((kind, None), |(kind, group)| (kind, Some(group.to_owned())));
    Ok(Need { group, kind: kind.to_owned(), namespace, name: name.to_owned(), state })
}

struct Reader<'a> {
    manifest: &'a Manifest,
    wishes: Wishes,
}

impl Reader<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        self.manifest.at("/metadata/annotations")?.get(key)?.as_str()
    }

    /// The words of a list, each trimmed.
    fn words(&self, key: &str) -> Vec<String> {
        let text = self.text(key).unwrap_or_default();
        text.split([',', '\n']).map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    fn wrong(&mut self, key: &str, message: impl Into<String>) {
        self.wishes.findings.push(Diagnostic::error("order-annotation", message).at(place(self.manifest, key)));
    }

    fn number(&mut self, key: &str) -> Option<i64> {
        let text = self.text(key)?.trim();
        match text.parse() {
            Ok(number) => Some(number),
            Err(_) => {
                let message = format!("`{key}` is a whole number, found `{text}`");
                self.wrong(key, message);
                None
            }
        }
    }

    fn depends_on(&mut self) {
        for word in self.words(DEPENDS_ON) {
            match need(&word) {
                Ok(need) => self.wishes.needs.push((need, place(self.manifest, DEPENDS_ON))),
                Err(message) => self.wrong(DEPENDS_ON, message),
            }
        }
        for word in self.words(CLI_UTILS) {
            let parts: Vec<&str> = word.split('/').collect();
            let own = |text: &&str| (*text).to_owned();
            let (group, namespace, kind, name) = match parts.as_slice() {
                [group, "namespaces", namespace, kind, name] => (own(group), Some(own(namespace)), own(kind), own(name)),
                [group, kind, name] => (own(group), None, own(kind), own(name)),
                _ => {
                    self.wrong(CLI_UTILS, format!("`{word}` is neither GROUP/KIND/NAME nor GROUP/namespaces/NAMESPACE/KIND/NAME"));
                    continue;
                }
            };
            self.wishes.needs.push((Need { group: Some(group), kind, namespace, name, state: Wanted::Ready }, place(self.manifest, CLI_UTILS)));
        }
    }

    fn kapp(&mut self) {
        let (id, object) = (&self.manifest.id, &self.manifest.value);
        self.wishes.groups = kapp::groups(id, object);
        for (key, text) in kapp::texts(id, object, kapp::CHANGE_RULE) {
            self.rule(&key, &text);
        }
    }

    fn rule(&mut self, key: &str, text: &str) {
        let words: Vec<&str> = text.split_whitespace().collect();
        let span = place(self.manifest, key);
        match words.as_slice() {
            ["upsert", side @ ("before" | "after"), "upserting", group] => {
                self.wishes.rules.push(GroupRule { before: *side == "before", group: (*group).to_owned(), span });
            }
            // What is deleted is not among the manifests: it is read from the objects of the cluster when they go.
            ["delete", "before" | "after", "deleting", _] => {}
            ["upsert" | "delete", "before" | "after", "upserting" | "deleting", _] => {
                let message = format!("`{text}` is not followed: deletions come after everything else here, or before it with strake.dev/prune: early");
                self.wishes.findings.push(Diagnostic::warning("order-annotation", message).at(span));
            }
            _ => self.wrong(key, format!("`{text}` is not `(upsert|delete) (before|after) (upserting|deleting) GROUP`")),
        }
    }

    fn hook(&mut self) {
        let wave = self.number(ARGO_WAVE);
        // Argo CD reads Helm's words too, and its own count more; ours count most.
        let found = if self.text(HOOK).is_some() {
            self.own_hook()
        } else if self.text(ARGO_HOOK).is_some() {
            self.argo_hook(wave)
        } else if self.text(HELM_HOOK).is_some() {
            self.helm_hook()
        } else {
            None
        };
        if let Some((hook, pin)) = found {
            self.wishes.hook = Some(hook);
            self.wishes.pin = Some(pin);
        } else if let (Some(wave), false) = (wave, self.wishes.left_out) {
            let span = place(self.manifest, ARGO_WAVE);
            self.wishes.pin = Some(Pin { stage: Stage { phase: Phase::Main, wave }, span, words: format!("sync-wave {wave}") });
        }
    }

    fn own_hook(&mut self) -> Option<(Hook, Pin)> {
        let word = self.text(HOOK).unwrap_or_default().trim().to_owned();
        let phase = match word.as_str() {
            "before" => Phase::Before,
            "after" => Phase::After,
            other => {
                self.wrong(HOOK, format!("`{HOOK}` is before or after, found `{other}`"));
                return None;
            }
        };
        let run = match self.text(HOOK_RUN).map(str::trim) {
            None | Some("changed") => HookRun::Changed,
            Some("each") => HookRun::Each,
            Some(other) => {
                let message = format!("`{HOOK_RUN}` is changed or each, found `{other}`");
                self.wrong(HOOK_RUN, message);
                return None;
            }
        };
        let wave = self.number(HOOK_WEIGHT).unwrap_or(0);
        let policies = self.words(HOOK_DELETE);
        let hook = self.policies(HOOK_DELETE, &policies, phase, run);
        Some((hook, Pin { stage: Stage { phase, wave }, span: place(self.manifest, HOOK), words: format!("hook {word}") }))
    }

    fn argo_hook(&mut self, wave: Option<i64>) -> Option<(Hook, Pin)> {
        let phases = [("PreSync", Phase::Before), ("Sync", Phase::Main), ("PostSync", Phase::After)];
        let words = self.words(ARGO_HOOK);
        let others =
            [("SyncFail", Some(Occasion::SyncFail)), ("PreDelete", Some(Occasion::PreDelete)), ("PostDelete", Some(Occasion::PostDelete)), ("Skip", None)];
        let policies = self.words(ARGO_DELETE).iter().map(|policy| kebab(policy)).collect::<Vec<_>>();
        let (found, occasions) = self.occasion(ARGO_HOOK, &words, &phases, &others);
        self.occasional(ARGO_DELETE, &policies, occasions, wave.unwrap_or(0));
        let (phase, word) = found?;
        let hook = self.policies(ARGO_DELETE, &policies, phase, HookRun::Each);
        Some((hook, Pin { stage: Stage { phase, wave: wave.unwrap_or(0) }, span: place(self.manifest, ARGO_HOOK), words: format!("hook {word}") }))
    }

    fn helm_hook(&mut self) -> Option<(Hook, Pin)> {
        let phases = [
            ("crd-install", Phase::Before),
            ("pre-install", Phase::Before),
            ("pre-upgrade", Phase::Before),
            ("post-install", Phase::After),
            ("post-upgrade", Phase::After),
        ];
        let others = [
            ("pre-delete", Some(Occasion::PreDelete)),
            ("post-delete", Some(Occasion::PostDelete)),
            ("pre-rollback", Some(Occasion::PreRollback)),
            ("post-rollback", Some(Occasion::PostRollback)),
            ("test", Some(Occasion::Test)),
            ("test-success", Some(Occasion::Test)),
            ("test-failure", None),
        ];
        let words = self.words(HELM_HOOK);
        let wave = self.number(HELM_WEIGHT).unwrap_or(0);
        let policies = self.words(HELM_DELETE);
        let (found, occasions) = self.occasion(HELM_HOOK, &words, &phases, &others);
        self.occasional(HELM_DELETE, &policies, occasions, wave);
        let (phase, word) = found?;
        let side = if phase == Phase::Before { "pre" } else { "post" };
        let has = |occasion: &str| words.iter().any(|word| *word == format!("{side}-{occasion}"));
        let run = match (has("install"), has("upgrade")) {
            (true, false) => HookRun::Install,
            (false, true) => HookRun::Upgrade,
            _ => HookRun::Each,
        };
        let hook = self.policies(HELM_DELETE, &policies, phase, run);
        Some((hook, Pin { stage: Stage { phase, wave }, span: place(self.manifest, HELM_HOOK), words: format!("hook {word}") }))
    }

    /// The first phase of an apply that the words name, and the other occasions. Without a phase the object is left out of applies; further phases are told.
    fn occasion(
        &mut self,
        key: &str,
        words: &[String],
        phases: &[(&str, Phase)],
        others: &[(&str, Option<Occasion>)],
    ) -> (Option<(Phase, String)>, Vec<Occasion>) {
        let mut chosen: Option<(Phase, String)> = None;
        let (mut occasions, mut elsewhere) = (Vec::new(), Vec::new());
        for word in words {
            let other = others.iter().find(|(name, _)| name == word);
            match (phases.iter().find(|(name, _)| name == word), other) {
                (Some((_, phase)), _) if chosen.as_ref().is_none_or(|(first, _)| first == phase) => {
                    chosen.get_or_insert_with(|| (*phase, word.clone()));
                }
                (None, Some((_, Some(occasion)))) if occasions.contains(occasion) => {}
                (None, Some((_, Some(occasion)))) => occasions.push(*occasion),
                (Some(_), _) | (None, Some(_)) => elsewhere.push(word.clone()),
                (None, None) => {
                    let known: Vec<&str> = phases.iter().map(|(name, _)| *name).chain(others.iter().map(|(name, _)| *name)).collect();
                    let near = strake_source::nearest(word, known.iter().copied());
                    let hint = near.map_or_else(|| format!("there are {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
                    self.wrong(key, format!("`{word}` is no hook: {hint}"));
                    return (None, Vec::new());
                }
            }
        }
        self.wishes.left_out = chosen.is_none();
        if !elsewhere.is_empty() && elsewhere != ["Skip"] {
            let left = if chosen.is_none() && occasions.is_empty() { "; it is left out" } else { "" };
            let message = format!("{} does not run at {}: an apply does not do that{left}", self.manifest.id, elsewhere.join(", "));
            self.wishes.findings.push(Diagnostic::warning("hook-not-run", message).at(place(self.manifest, key)));
        }
        (chosen, occasions)
    }

    /// Runs of the object at other occasions.
    fn occasional(&mut self, key: &str, policies: &[String], occasions: Vec<Occasion>, weight: i64) {
        if !occasions.is_empty() {
            let findings = self.wishes.findings.len();
            let hook = self.policies(key, policies, Phase::After, HookRun::Each);
            // A wrong policy is told once, also when the object is for an apply too.
            if !self.wishes.left_out {
                self.wishes.findings.truncate(findings);
            }
            self.wishes.occasions = occasions.into_iter().map(|occasion| (occasion, weight, hook)).collect();
        }
    }

    fn policies(&mut self, key: &str, words: &[String], phase: Phase, run: HookRun) -> Hook {
        let mut hook = Hook { phase, run, delete_succeeded: false, delete_failed: false };
        for word in words {
            match word.as_str() {
                // What is run again is always made anew.
                "before-hook-creation" => {}
                "hook-succeeded" => hook.delete_succeeded = true,
                "hook-failed" => hook.delete_failed = true,
                other => self.wrong(key, format!("`{other}` is no delete policy: there are before-hook-creation, hook-succeeded and hook-failed")),
            }
        }
        hook
    }
}

/// `HookSucceeded` as `hook-succeeded`.
fn kebab(word: &str) -> String {
    let mut out = String::new();
    for (index, letter) in word.chars().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            out.push('-');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
