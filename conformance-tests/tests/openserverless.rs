//! The OpenServerless door over HTTP, against the running program. `CLAIMS.md` says which test
//! shows which row of the contract.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test panics where it fails")]

mod openserverless {
    mod authorization;
    mod bad_input;
    mod cleanup;
    mod dialect;
    mod ensure;
    mod gateway;
    mod launch;
    mod registry;
    mod start;
    mod status;

    use kiln_conformance_tests::couchdb;
}
