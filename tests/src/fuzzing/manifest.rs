//! The manifest of an installed environment.

use pyro_runtime::environment::Manifest;

pub(super) const WORDS: &[&[u8]] =
    &[b"null", b"\"files\":[]", b"-1", b"1e99", b"{", b"}", b"\\u0000", b"../"];

/// Reads the input as a manifest; one that can be read means the same when it was written again.
pub(super) fn run(input: &[u8]) {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(input) else { return };
    let encoded = serde_json::to_vec_pretty(&manifest).expect("a manifest can be written");
    let again: Manifest = serde_json::from_slice(&encoded).expect("what was written can be read");
    assert_eq!(again, manifest, "a manifest changed on its way through the encoding");
}

/// Returns where values and names begin.
pub(super) fn fields(input: &[u8]) -> Vec<usize> {
    let begins = |byte: &u8| matches!(byte, b':' | b',' | b'{' | b'[' | b'"');
    input.iter().zip(1..).filter(|(byte, _)| begins(byte)).map(|(_, place)| place).collect()
}

/// Returns a manifest as an installation has it, and one without its optional parts.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let file = r#"{"path":"vmlinuz","size_bytes":5000000,"blake3":"ab"}"#;
    let tree = r#"{"path":"tree","owner_uid":524288,"entries":9000,"blake3":"cd"}"#;
    let manifest = |digest: &str, files: &str| {
        format!(
            r#"{{"catalog_version":"2.5.0","name":"debian:12","version":"1.0.0","source":"apt","source_digest":{digest},"installed_at":1738325000,"kernel_version":"6.1.0-37-amd64","files":[{files}],"tree":{tree}}}"#
        )
        .into_bytes()
    };
    vec![manifest("\"ef\"", &format!("{file},{file}")), manifest("null", "")]
}
