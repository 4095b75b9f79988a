//! Single files for ADD.

use strake_oci::Digest;
use strake_registry::{FetchError, PullOptions, fetch};

use crate::mock::{Answer, Mock};

async fn get(url: &str, expected: Option<&Digest>) -> (Result<Digest, FetchError>, Option<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let outcome = fetch(url, expected, &path, &PullOptions::default()).await;
    (outcome, std::fs::read(path).ok())
}

fn redirect(to: &str) -> Answer {
    let mut answer = Answer::status(302, "");
    answer.headers.push(("Location".to_owned(), to.to_owned()));
    answer
}

#[tokio::test]
async fn files_are_fetched_and_checked() {
    let mock = Mock::start().await;
    mock.on("/f", Answer::ok("text/plain", b"content"));
    let url = format!("http://{}/f", mock.host);
    let right = Digest::of(b"content");
    for expected in [None, Some(&right)] {
        let (digest, file) = get(&url, expected).await;
        assert_eq!((digest.unwrap(), file.as_deref()), (right, Some(&b"content"[..])));
    }
    let (error, file) = get(&url, Some(&Digest::of(b"other"))).await;
    assert!(matches!(error, Err(FetchError::Checksum { .. })) && file.is_none(), "nothing wrong is left");
    let (missing, _) = get(&format!("http://{}/none", mock.host), None).await;
    assert_eq!(missing.unwrap_err().to_string(), format!("http://{}/none: invalid response status 404", mock.host));
    assert!(matches!(get("ftp://h/f", None).await.0, Err(FetchError::Address { .. })));
}

#[tokio::test]
async fn redirects_carry_no_login_and_reach_no_metadata() {
    let (first, second) = (Mock::start().await, Mock::start().await);
    first.on("/f", redirect(&format!("http://{}/g", second.host)));
    second.on("/g", Answer::ok("text/plain", b"there"));
    let (digest, _) = get(&format!("http://me:secret@{}/f", first.host), None).await;
    assert_eq!(digest.unwrap(), Digest::of(b"there"));
    assert_eq!(first.asked("/f Basic bWU6c2VjcmV0"), 1, "the host itself gets the login");
    assert_eq!((second.asked("/g"), second.asked("/g Basic bWU6c2VjcmV0")), (1, 0));
    first.on("/m", redirect("http://169.254.169.254/latest/meta-data"));
    let (error, _) = get(&format!("http://{}/m", first.host), None).await;
    assert!(matches!(&error, Err(FetchError::Refused { address, .. }) if address.to_string() == "169.254.169.254"), "{error:?}");
    let (error, _) = get("http://[fe80::1]/x", None).await;
    assert!(matches!(error, Err(FetchError::Refused { .. })));
    first.on("/loop", redirect(&format!("http://{}/loop", first.host)));
    let (error, _) = get(&format!("http://me:secret@{}/loop", first.host), None).await;
    assert!(matches!(&error, Err(error) if !error.to_string().contains("secret")), "{error:?}");
}
