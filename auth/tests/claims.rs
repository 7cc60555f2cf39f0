//! What is fuzzed where there is a fuzzer, over bounded input: the claims are the fuzzer's own.
#![expect(clippy::expect_used, reason = "a claim panics where it fails")]

#[path = "../fuzz/claims.rs"]
mod claims;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use claims::authorization;
use proptest::prelude::*;

/// Headers that are close to good ones: words of the grammar in any order, some of them in base64.
fn nearly_good() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("Basic ".to_owned()),
        Just("Bearer ".to_owned()),
        Just("bearer\t".to_owned()),
        Just(":".to_owned()),
        Just("%".to_owned()),
        Just("%00".to_owned()),
        Just("%C3%A4".to_owned()),
        Just("\u{e4}".to_owned()),
        Just("eyJhbGciOiJub25lIn0.e30.".to_owned()),
        "[a-zA-Z0-9._%=+/-]{1,40}",
        "[a-z]{1,8}:[a-zA-Z0-9%]{1,40}".prop_map(|text| BASE64_STANDARD.encode(text)),
    ];
    prop::collection::vec(word, 0..6).prop_map(|words| words.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_may_stand_in_a_header(value in prop::collection::vec(any::<u8>(), 0..256)) {
        authorization(&value);
    }

    #[test]
    fn what_is_nearly_good_may_stand_in_a_header(value in nearly_good()) {
        authorization(&value);
    }
}

#[test]
fn what_is_good_is_taken_and_what_is_too_long_is_not() {
    let long = format!("u:{}", "k".repeat(8 * 1024 - 2));
    for (value, taken) in [
        ("u:k", true),
        ("Basic dTpr", true),
        ("dTpr", true),
        ("Bearer eyJhbGciOiJub25lIn0.e30.c2ln", true),
        ("u", false),
        ("", false),
        (&long, true),
        (&format!("{long}k"), false),
    ] {
        assert_eq!(authorization(value.as_bytes()), taken, "{}", value.len());
    }
}
