//! The documentation of the error codes is the list of the error codes.

use pyro_api::ErrorCode;

/// Catches a code that was added, renamed or removed on one side only.
#[test]
fn documentation_lists_exactly_the_codes() {
    let page = include_str!("../../docs/exit-codes.md");
    let (_, table) = page.split_once("| code | meaning |").expect("the page has the table");
    let documented: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(code, _)| code)
        .collect();
    let codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(documented, codes);
}

/// Catches two codes with one word, and words that are not stable in JSON.
#[test]
fn codes_are_words_that_are_read_back() {
    for code in ErrorCode::ALL {
        let json = serde_json::to_string(code).unwrap();
        assert_eq!(json, format!("\"{code}\""));
        assert_eq!(serde_json::from_str::<ErrorCode>(&json).unwrap(), *code);
        assert!(code.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
    }
    assert_eq!(serde_json::from_str::<ErrorCode>("\"of_a_later_version\"").unwrap(), ErrorCode::Internal);
}
