//! Files as they come inside JSON: standard base64, strict but for line breaks.

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// Standard base64; line breaks between characters are passed over, nothing else is.
pub(in crate::doors) fn decode(encoded: &str) -> Option<Vec<u8>> {
    if encoded.bytes().any(|b| matches!(b, b'\r' | b'\n')) {
        let joined: String = encoded.split(['\r', '\n']).collect();
        BASE64_STANDARD.decode(joined).ok()
    } else {
        BASE64_STANDARD.decode(encoded).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_strict_but_for_line_breaks() {
        assert_eq!(decode("Z25ld3MKYmVh\r\ndXRpZnVsc291cDQ=\n").as_deref(), Some(&b"gnews\nbeautifulsoup4"[..]));
        assert_eq!(decode("").as_deref(), Some(&b""[..]));
        for junk in ["YW!!Jj", "YWJ", "YW Jj", "YW-_", "YQ", "\u{ff21}"] {
            assert_eq!(decode(junk), None, "{junk:?}");
        }
    }
}
