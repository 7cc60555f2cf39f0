//! Who may sign at the OpenFaaS door: whether the keys can be read that requests will be held against.

use super::{Finding, bad, good, warning};
use crate::{config::OpenFaas, doors::openfaas::Proof, identities::Callers, serve::causes};

const PART: &str = "openfaas";

/// What is to be said of the door's keys; nothing where there is no door.
pub(super) fn keys(config: &OpenFaas, callers: &Callers) -> Vec<Finding> {
    if !config.is_on() {
        return Vec::new();
    }
    let proof = match Proof::new(config, &callers.signers, callers.signers_alone) {
        Ok(proof) => proof,
        Err(error) => return vec![bad(PART, causes(&error))],
    };
    if config.disable_hmac {
        let text = "openfaas.disable_hmac is set: whoever reaches the listener builds and pushes without a signature";
        return vec![warning(PART, text)];
    }
    let findings = proof.keys().into_iter().map(|(whose, files, read)| match read {
        Ok(read) if read < files => warning(PART, format!("{whose}: {read} of {files} files are there")),
        Ok(_) => good(PART, format!("{whose} can be read")),
        Err(error) => bad(PART, format!("{whose}: {}; its holder could send nothing", causes(&error))),
    });
    let same = proof.same_keys().into_iter().map(|(one, other)| {
        bad(PART, format!("{one} and {other} have the same key, so that its holder is either; give each their own"))
    });
    findings.chain(same).collect()
}
