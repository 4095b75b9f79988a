//! What SOPS writes about a file: for whom it is encrypted, by which rules, and the digest of its values.

use std::collections::BTreeMap;

use regex::Regex;
use strake_yaml::Node;

use crate::error::SopsError;

/// Somebody whose key opens the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipient {
    /// The public key.
    pub(crate) name: String,
    /// The data key, encrypted for it: an armoured age file.
    pub(crate) message: String,
}

/// Which values are encrypted.
#[derive(Clone, Debug)]
enum Rule {
    /// All but those below a key that fits.
    AllBut(Regex),
    /// Those below a key that fits.
    Only(Regex),
    /// As comments say: it is seen from each value.
    ByComment,
}

#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) mac: String,
    /// What the digest is bound to.
    pub(crate) modified: String,
    /// The digest is of encrypted values only.
    pub(crate) only_encrypted: bool,
    rule: Rule,
}

/// Services whose keys SOPS knows and strake does not ask.
const SERVICES: [&str; 6] = ["pgp", "kms", "gcp_kms", "azure_kv", "hc_vault", "hckms"];
const RULES: [&str; 6] =
    ["unencrypted_suffix", "encrypted_suffix", "unencrypted_regex", "encrypted_regex", "unencrypted_comment_regex", "encrypted_comment_regex"];

impl Metadata {
    /// Whether the value at a path is encrypted; `None` when comments decide.
    pub(crate) fn encrypts(&self, path: &[String]) -> Option<bool> {
        match &self.rule {
            Rule::AllBut(pattern) => Some(!path.iter().any(|key| pattern.is_match(key))),
            Rule::Only(pattern) => Some(path.iter().any(|key| pattern.is_match(key))),
            Rule::ByComment => None,
        }
    }
}

/// From the block of a YAML or JSON file.
pub(crate) fn of_node(block: &Node) -> Result<Metadata, SopsError> {
    let text = |node: &Node, key: &str| node.get(key).and_then(Node::as_str).map(str::to_owned);
    if block.get("key_groups").is_some_and(|groups| !groups.items().is_empty()) {
        return Err(SopsError::Unsupported { what: "a data key in several parts (key_groups)".to_owned() });
    }
    let ages = block.get("age").map(Node::items).unwrap_or_default();
    let recipients =
        ages.iter().map(|one| Recipient { name: text(one, "recipient").unwrap_or_default(), message: text(one, "enc").unwrap_or_default() }).collect();
    let services = SERVICES.iter().filter(|service| block.get(service).is_some_and(|list| !list.items().is_empty()));
    let mut fields: BTreeMap<&str, String> = BTreeMap::new();
    for key in RULES.iter().chain(&["mac", "lastmodified"]) {
        fields.extend(text(block, key).map(|value| (*key, value)));
    }
    let only_encrypted = block.get("mac_only_encrypted").is_some_and(|node| matches!(node.kind, strake_yaml::Kind::Bool(true)));
    made(recipients, &services.copied().collect::<Vec<_>>(), &fields, only_encrypted)
}

/// From the variables of a dotenv file, without the `sops_` in front.
pub(crate) fn of_variables(variables: &BTreeMap<String, String>) -> Result<Metadata, SopsError> {
    if variables.keys().any(|name| name.starts_with("key_groups__")) {
        return Err(SopsError::Unsupported { what: "a data key in several parts (key_groups)".to_owned() });
    }
    let recipient = |place: usize| {
        let field = |name: &str| variables.get(&format!("age__list_{place}__map_{name}")).cloned();
        Some(Recipient { name: field("recipient")?, message: field("enc")?.replace("\\n", "\n") })
    };
    let recipients = (0..).map_while(recipient).collect();
    let services = SERVICES.iter().filter(|service| variables.keys().any(|name| name.starts_with(&format!("{service}__list_"))));
    let fields = RULES.iter().chain(&["mac", "lastmodified"]).filter_map(|key| Some((*key, variables.get(*key)?.clone()))).collect();
    let only_encrypted = variables.get("mac_only_encrypted").is_some_and(|value| value == "true");
    made(recipients, &services.copied().collect::<Vec<_>>(), &fields, only_encrypted)
}

fn made(recipients: Vec<Recipient>, services: &[&str], fields: &BTreeMap<&str, String>, only_encrypted: bool) -> Result<Metadata, SopsError> {
    let field = |name: &str| fields.get(name).filter(|value| !value.is_empty());
    let needed = |name: &str| field(name).cloned().ok_or_else(|| SopsError::Damaged { what: format!("it has no `{name}`") });
    if recipients.is_empty() {
        return Err(match services {
            [] => SopsError::Damaged { what: "it names no recipient".to_owned() },
            _ => SopsError::Service { services: services.join(", ") },
        });
    }
    let pattern = |name: &str, text: &str| Regex::new(text).map_err(|_| SopsError::Damaged { what: format!("`{name}` is no regular expression") });
    let suffix = |name: &str, text: &str| pattern(name, &format!("{}$", regex::escape(text)));
    let rule = match RULES.iter().find_map(|name| Some((*name, field(name)?))) {
        Some(("unencrypted_suffix", text)) => Rule::AllBut(suffix("unencrypted_suffix", text)?),
        Some(("encrypted_suffix", text)) => Rule::Only(suffix("encrypted_suffix", text)?),
        Some((name @ "unencrypted_regex", text)) => Rule::AllBut(pattern(name, text)?),
        Some((name @ "encrypted_regex", text)) => Rule::Only(pattern(name, text)?),
        Some(_) => Rule::ByComment,
        // Without any rule everything is encrypted.
        None => Rule::AllBut(pattern("", "^\\b$")?),
    };
    Ok(Metadata { recipients, mac: needed("mac")?, modified: needed("lastmodified")?, only_encrypted, rule })
}
