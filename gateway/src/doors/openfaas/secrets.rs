//! Sealed build secrets at the door: the key that callers seal for, and what opens their envelopes.

use std::path::Path;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretSlice};

use super::{OpenFaas, dialect::Fault};
use crate::{
    sealed::{KeyFileError, SealingKeys, Secrets},
    serve::causes,
};

/// `GET /publickey`: what `openfaas.build_secrets_key_file` says now.
pub(super) async fn public_key(State(door): State<OpenFaas>) -> Response {
    let Some(file) = &door.build_secrets else {
        let text = "this builder takes no build secrets: the operator has set no openfaas.build_secrets_key_file\n";
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    match with_keys(file, |keys| keys.public()).await {
        Ok(public) => Json(public).into_response(),
        Err(fault) => (fault.status, fault.text + "\n").into_response(),
    }
}

/// What the envelope of an archive holds.
pub(super) async fn open(door: &OpenFaas, envelope: Option<SecretSlice<u8>>) -> Result<Secrets, Fault> {
    let Some(envelope) = envelope else { return Ok(Secrets::new()) };
    let Some(file) = &door.build_secrets else {
        return Err(Fault::bad("com.openfaas.secrets: this gateway has no key to open build secrets with"));
    };
    let opened = with_keys(file, move |keys| keys.open(envelope.expose_secret())).await?;
    opened.map_err(|error| Fault::bad(error.to_string()))
}

/// Does something with the keys that are in the file now, where it may take a while.
async fn with_keys<T: Send + 'static>(
    file: &Path,
    work: impl FnOnce(&SealingKeys) -> T + Send + 'static,
) -> Result<T, Fault> {
    let file = file.to_owned();
    let done = tokio::task::spawn_blocking(move || Ok(work(&SealingKeys::read(&file)?))).await;
    done.map_err(|error| Fault::internal(&error))?.map_err(|error: KeyFileError| {
        tracing::error!(error = causes(&error), "openfaas.build_secrets_key_file can't be used");
        Fault::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the key for build secrets can't be had; the operator's log says why",
        )
    })
}
