//! The secret that whoever changes plugins has to know.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::said::Said;
use super::sources::Sources;
use super::{ConfigError, kafka, keys};

/// The fewest characters of a token: 16 random ones can't be guessed.
const LEAST_CHARACTERS: usize = 16;

/// The secret that whoever changes plugins has to know. It can't be shown.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Whether this is the token. It takes as long, however much of it is right.
    pub fn is(&self, guess: &str) -> bool {
        Sha256::digest(&self.0).ct_eq(&Sha256::digest(guess)).into()
    }

    /// The token itself, to be sent.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

/// The token, where one is given, or the file that holds it.
pub(super) fn token(sources: &Sources<'_>) -> Result<Option<Token>, ConfigError> {
    let (plain, file) = (sources.get(&keys::CONTROL_TOKEN), sources.get(&keys::CONTROL_TOKEN_FILE));
    match (plain, file) {
        (Some(plain), Some(file)) => {
            Err(file.wrong(format!("{} gives a token already; allowed is one of them", plain.origin)))
        }
        (Some(plain), None) => checked(&plain, kafka::plain(&plain)?).map(Some),
        (None, Some(file)) => checked(&file, kafka::content(&file)?).map(Some),
        (None, None) => Ok(None),
    }
}

fn checked(said: &Said, token: String) -> Result<Token, ConfigError> {
    if token.len() < LEAST_CHARACTERS || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(said.wrong(format!(
            "the token can't be used; allowed are at least {LEAST_CHARACTERS} visible ASCII characters, such as what \
             \"openssl rand -hex 32\" makes"
        )));
    }
    Ok(Token(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_token_is_accepted_and_it_is_never_shown() {
        let token = Token("0123456789abcdef".to_owned());
        assert!(token.is("0123456789abcdef"));
        for wrong in ["", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeF"] {
            assert!(!token.is(wrong), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token");
    }
}
