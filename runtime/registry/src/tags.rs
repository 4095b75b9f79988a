//! The tags of a repository, page by page.

use std::collections::BTreeSet;

use reqwest::Method;
use reqwest::header::LINK;
use serde::Deserialize;
use strake_store::Store;

use crate::endpoint::{Endpoint, Operation};
use crate::error::RegistryError;
use crate::pull::PullOptions;
use crate::retry::again;
use crate::session::Session;

/// Names that are asked for at a time; a registry may give fewer.
const PAGE: usize = 1000;
/// The longest page, in bytes.
const MAX_PAGE_BYTES: u64 = 8 << 20;
/// More tags than this are not listed: the choice among some of them would be an accident.
const MAX_TAGS: usize = 200_000;
/// And no more pages than this.
const MAX_PAGES: usize = 10_000;

#[derive(Deserialize)]
struct Page {
    // Some registries answer `null` where there are none.
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// Every tag of a reference's repository (its own tag or digest do not matter), sorted. The registry itself is asked: a mirror knows what was pulled through it.
///
/// # Errors
/// As [`crate::pull`]; also when there is no end to the list.
pub async fn tags(reference: &str, store: &Store, options: &PullOptions) -> Result<Vec<String>, RegistryError> {
    let session = Session::open(reference, store, options, Operation::Pull)?;
    let endpoint = session.registry();
    let mut found = BTreeSet::new();
    let mut next = Some(endpoint.url(&format!("tags/list?n={PAGE}"))?);
    for _ in 0..MAX_PAGES {
        let Some(url) = next.take() else { return Ok(found.into_iter().collect()) };
        let (page, following) = again(options, || one(endpoint, &url, &session)).await?;
        let before = found.len();
        found.extend(page);
        if found.len() > MAX_TAGS {
            return Err(endpoint.protocol(format!("it lists more than {MAX_TAGS} tags")));
        }
        // A page without news that leads on leads in a circle.
        if following.is_some() && found.len() == before {
            return Err(endpoint.protocol("the pages of its list of tags have no end"));
        }
        next = following;
    }
    Err(endpoint.protocol(format!("its list of tags has more than {MAX_PAGES} pages")))
}

async fn one(endpoint: &Endpoint, url: &reqwest::Url, session: &Session<'_>) -> Result<(Vec<String>, Option<reqwest::Url>), RegistryError> {
    let mut ask = endpoint.ask(Method::GET, "tags/list")?;
    ask.url = url.clone();
    let response = endpoint.send(&ask, &[]).await?;
    let link = response.headers().get(LINK).and_then(|value| value.to_str().ok()).and_then(following).map(str::to_owned);
    let next = match link {
        Some(link) => {
            let url = url.join(&link).map_err(|_| endpoint.protocol("the next page of its list of tags is at no address"))?;
            // The login would go with it.
            if url.origin() != ask.url.origin() {
                return Err(endpoint.protocol("the next page of its list of tags is at another host"));
            }
            Some(url)
        }
        None => None,
    };
    let bytes =
        endpoint.body(response, MAX_PAGE_BYTES).await?.ok_or_else(|| endpoint.protocol(format!("a page of tags has more than {MAX_PAGE_BYTES} bytes")))?;
    let page: Page = session.decode(&bytes)?;
    Ok((page.tags.unwrap_or_default(), next))
}

/// The address in `</v2/a/tags/list?n=2&last=b>; rel="next"` (RFC 8288).
fn following(link: &str) -> Option<&str> {
    link.split(',').find_map(|one| {
        let (address, parameters) = one.trim().strip_prefix('<')?.split_once('>')?;
        let next = parameters.split(';').map(str::trim).any(|word| matches!(word, "rel=\"next\"" | "rel=next"));
        next.then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::following;

    #[test]
    fn the_next_page_is_found() {
        assert_eq!(following("</v2/a/tags/list?n=2&last=b>; rel=\"next\""), Some("/v2/a/tags/list?n=2&last=b"));
        assert_eq!(following("</x>; rel=\"prev\", </y>; title=a; rel=next"), Some("/y"));
        assert_eq!(following("</x>"), None);
        assert_eq!(following(""), None);
    }
}
