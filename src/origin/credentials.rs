//! Keys to sign with: from the environment, the configuration or an AWS credentials file.

use crate::config::S3Credentials;
use arc_swap::ArcSwap;
use aws_credential_types::Credentials;
use ini::{Ini, ParseOption};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How often a credentials file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where the keys of an origin come from.
#[derive(Debug)]
pub struct CredentialSource(Source);

#[derive(Debug)]
enum Source {
    Anonymous,
    Fixed(Result<Credentials, CredentialsError>),
    Profile(ProfileFile),
}

/// Why there is nothing to sign with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// `credentials: env`, and a variable is missing or empty.
    #[error(
        "`{variable}` is not set in the environment: set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or choose \
         other `credentials` for the origin"
    )]
    Environment {
        /// The missing one.
        variable: &'static str,
    },
    /// A static key is empty.
    #[error("`{field}` is empty: set it under `credentials` of the origin")]
    Empty {
        /// The empty one.
        field: &'static str,
    },
    /// The file cannot be read or is no INI file.
    #[error("the credentials file `{}` {problem}: mend it, or name another with `credentials: {{ file: … }}`", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, as a predicate.
        problem: String,
    },
    /// The file has no such section.
    #[error("the credentials file `{}` has no profile `{profile}`: it has {known}", file.display())]
    Profile {
        /// The file.
        file: PathBuf,
        /// The section looked for.
        profile: String,
        /// The ones found, for people.
        known: String,
    },
    /// The section lacks a key.
    #[error(
        "profile `{profile}` of `{}` has no `{key}`: add it; roles, single sign-on and credential processes are not followed",
        file.display()
    )]
    Key {
        /// The file.
        file: PathBuf,
        /// The section.
        profile: String,
        /// What it lacks.
        key: &'static str,
    },
}

impl CredentialSource {
    /// Opens a source. What is missing is reported by [`CredentialSource::current`].
    pub fn new(from: &S3Credentials) -> Self {
        Self::with_environment(from, |variable| std::env::var(variable).ok())
    }

    fn with_environment(from: &S3Credentials, variable: impl Fn(&str) -> Option<String>) -> Self {
        CredentialSource(match from {
            S3Credentials::Anonymous => Source::Anonymous,
            S3Credentials::Env => Source::Fixed(environment(variable)),
            S3Credentials::Static { access_key_id, secret_access_key, session_token } => {
                Source::Fixed(fixed(access_key_id, secret_access_key, session_token.as_deref()))
            }
            S3Credentials::Profile { file, profile } => Source::Profile(ProfileFile::open(file, profile)),
        })
    }

    /// The keys to use now; `None` means that requests go unsigned.
    ///
    /// A credentials file that changed is read again. While the new one is broken, the last good keys are used.
    pub fn current(&self) -> Result<Option<Credentials>, CredentialsError> {
        match &self.0 {
            Source::Anonymous => Ok(None),
            Source::Fixed(credentials) => credentials.clone().map(Some),
            Source::Profile(file) => file.current(file.opened.elapsed()).map(Some),
        }
    }

    /// What is wrong with the source at present, even while old keys still serve.
    pub fn last_error(&self) -> Option<CredentialsError> {
        match &self.0 {
            Source::Anonymous => None,
            Source::Fixed(credentials) => credentials.as_ref().err().cloned(),
            Source::Profile(file) => file.state.load().error.clone(),
        }
    }
}

fn environment(variable: impl Fn(&str) -> Option<String>) -> Result<Credentials, CredentialsError> {
    let required = |name: &'static str| {
        variable(name).filter(|value| !value.is_empty()).ok_or(CredentialsError::Environment { variable: name })
    };
    let id = required("AWS_ACCESS_KEY_ID")?;
    let secret = required("AWS_SECRET_ACCESS_KEY")?;
    let token = variable("AWS_SESSION_TOKEN").filter(|value| !value.is_empty());
    Ok(Credentials::new(id, secret, token, None, "environment"))
}

fn fixed(id: &str, secret: &str, token: Option<&str>) -> Result<Credentials, CredentialsError> {
    for (field, value) in [("access_key_id", id), ("secret_access_key", secret)] {
        if value.is_empty() {
            return Err(CredentialsError::Empty { field });
        }
    }
    Ok(Credentials::new(id, secret, token.filter(|token| !token.is_empty()).map(str::to_owned), None, "configuration"))
}

/// One section of a credentials file and what was last read from it.
#[derive(Debug)]
struct ProfileFile {
    file: PathBuf,
    profile: String,
    opened: Instant,
    /// Milliseconds after `opened` from which the file is looked at again.
    next_look: AtomicU64,
    state: ArcSwap<ProfileState>,
}

#[derive(Debug)]
struct ProfileState {
    /// The file that `credentials` are from; `None` makes the next look read it, whatever its date.
    read: Option<Stamp>,
    credentials: Option<Credentials>,
    error: Option<CredentialsError>,
}

/// What tells a changed file from an unchanged one. The number of the file counts because a file that is replaced by
/// renaming can have the date and the length of the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    number: u64,
}

impl ProfileFile {
    fn open(file: &Path, profile: &str) -> Self {
        let empty = ProfileState { read: None, credentials: None, error: None };
        let opened = ProfileFile {
            file: file.to_owned(),
            profile: profile.to_owned(),
            opened: Instant::now(),
            next_look: AtomicU64::new(0),
            state: ArcSwap::from_pointee(empty),
        };
        opened.look();
        opened
    }

    fn current(&self, elapsed: Duration) -> Result<Credentials, CredentialsError> {
        let now = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let due = self.next_look.load(Ordering::Relaxed);
        if now >= due {
            let next = now.saturating_add(u64::try_from(LOOK_EVERY.as_millis()).unwrap_or(1000));
            // Whoever moves the time looks; the others go on with what is known.
            if self.next_look.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                self.look();
            }
        }
        let state = self.state.load();
        match (&state.credentials, &state.error) {
            (Some(credentials), _) => Ok(credentials.clone()),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Err(self.broken("has not been read yet")),
        }
    }

    /// Reads the file if it is another than the one last read.
    fn look(&self) {
        let state = self.state.load();
        // Taken before reading: if the file changes in between, the next look sees a new stamp.
        let stamp = stamp(&self.file);
        if stamp.is_some() && stamp == state.read {
            return;
        }
        let next = match self.read() {
            Ok(credentials) => {
                if state.error.is_some() {
                    tracing::info!(file = %self.file.display(), profile = %self.profile, "credentials file is good again");
                }
                ProfileState { read: stamp, credentials: Some(credentials), error: None }
            }
            Err(error) => {
                if state.error.as_ref() != Some(&error) {
                    let kept = if state.credentials.is_some() { "the last good keys stay in use" } else { "no keys" };
                    tracing::warn!(%error, "{kept}");
                }
                // Not stamped: a file that is caught half written is read again at the next look.
                ProfileState { read: None, credentials: state.credentials.clone(), error: Some(error) }
            }
        };
        self.state.store(Arc::new(next));
    }

    fn read(&self) -> Result<Credentials, CredentialsError> {
        let text = fs::read_to_string(&self.file).map_err(|error| self.broken(format!("cannot be read ({error})")))?;
        // Secrets may hold backslashes and quotes, which AWS takes as they are.
        let as_is = ParseOption { enabled_quote: false, enabled_escape: false, ..ParseOption::default() };
        let ini = Ini::load_from_str_opt(&text, as_is).map_err(|error| {
            // The parser's message may quote the line, and with it a secret.
            self.broken(format!("is not an INI file (line {})", error.line.saturating_add(1)))
        })?;

        // Files of the kind `~/.aws/config` write `[profile NAME]`.
        let section = ini
            .section(Some(self.profile.as_str()))
            .or_else(|| ini.section(Some(format!("profile {}", self.profile))))
            .ok_or_else(|| self.no_profile(&ini))?;
        let value = |key: &str| section.get(key).map(str::trim).filter(|value| !value.is_empty());
        let required = |key: &'static str| {
            value(key).ok_or_else(|| CredentialsError::Key {
                file: self.file.clone(),
                profile: self.profile.clone(),
                key,
            })
        };
        let id = required("aws_access_key_id")?;
        let secret = required("aws_secret_access_key")?;
        Ok(Credentials::new(id, secret, value("aws_session_token").map(str::to_owned), None, "profile"))
    }

    fn broken(&self, problem: impl Into<String>) -> CredentialsError {
        CredentialsError::File { file: self.file.clone(), problem: problem.into() }
    }

    fn no_profile(&self, ini: &Ini) -> CredentialsError {
        let known: Vec<String> = ini
            .sections()
            .flatten()
            .map(|section| format!("`{}`", section.strip_prefix("profile ").unwrap_or(section)))
            .collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        CredentialsError::Profile { file: self.file.clone(), profile: self.profile.clone(), known }
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(file).ok()?;
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let number = 0;
    Some(Stamp { modified: metadata.modified().ok(), length: metadata.len(), number })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[default]\naws_access_key_id = AKID1\naws_secret_access_key = se/cr+et\\1\"\n\n\
                        [profile images]\naws_access_key_id=AKID2\naws_secret_access_key=s2\naws_session_token=t2\n";

    fn profile(file: &Path, profile: &str) -> CredentialSource {
        CredentialSource::new(&S3Credentials::Profile { file: file.into(), profile: profile.into() })
    }

    fn written(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    fn later(source: &CredentialSource, seconds: u64) -> Result<String, CredentialsError> {
        let Source::Profile(file) = &source.0 else { panic!("not a file") };
        file.current(Duration::from_secs(seconds)).map(|keys| keys.access_key_id().to_owned())
    }

    fn from_environment(pairs: &[(&str, &str)]) -> Result<Option<Credentials>, CredentialsError> {
        let variable =
            |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        CredentialSource::with_environment(&S3Credentials::Env, variable).current()
    }

    #[test]
    fn the_environment_gives_key_secret_and_token() {
        let pairs = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_SESSION_TOKEN", "token")];
        let keys = from_environment(&pairs).unwrap().unwrap();
        assert_eq!((keys.access_key_id(), keys.secret_access_key()), ("id", "secret"));
        assert_eq!(keys.session_token(), Some("token"));
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = from_environment(&[("AWS_ACCESS_KEY_ID", "id")]).unwrap_err();
        assert!(error.to_string().starts_with("`AWS_SECRET_ACCESS_KEY` is not set"), "{error}");
    }

    #[test]
    fn anonymous_means_unsigned() {
        assert!(CredentialSource::new(&S3Credentials::Anonymous).current().unwrap().is_none());
    }

    #[test]
    fn an_empty_static_key_is_an_error() {
        let credentials =
            S3Credentials::Static { access_key_id: "id".into(), secret_access_key: String::new(), session_token: None };
        let error = CredentialSource::new(&credentials).current().unwrap_err();
        assert_eq!(error, CredentialsError::Empty { field: "secret_access_key" });
    }

    #[test]
    fn a_profile_is_found_under_either_spelling_of_its_section() {
        let file = written(GOOD);
        let keys = profile(file.path(), "default").current().unwrap().unwrap();
        assert_eq!((keys.access_key_id(), keys.secret_access_key()), ("AKID1", "se/cr+et\\1\""));
        let keys = profile(file.path(), "images").current().unwrap().unwrap();
        assert_eq!((keys.access_key_id(), keys.session_token()), ("AKID2", Some("t2")));
    }

    #[test]
    fn an_unknown_profile_is_answered_with_the_known_ones() {
        let file = written(GOOD);
        let error = profile(file.path(), "imgs").current().unwrap_err().to_string();
        assert!(error.ends_with("has no profile `imgs`: it has `default`, `images`"), "{error}");
    }

    #[test]
    fn a_profile_without_keys_says_which_is_missing() {
        let file = written("[default]\nrole_arn = arn:aws:iam::1:role/x\n");
        let error = profile(file.path(), "default").current().unwrap_err();
        assert!(error.to_string().contains("has no `aws_access_key_id`"), "{error}");
    }

    #[test]
    fn a_changed_file_is_read_again_within_a_second() {
        let file = written(GOOD);
        let source = profile(file.path(), "default");
        assert_eq!(later(&source, 0).unwrap(), "AKID1");
        fs::write(file.path(), GOOD.replace("AKID1", "ROTATED")).unwrap();
        assert_eq!(later(&source, 0).unwrap(), "AKID1", "looked at once a second");
        assert_eq!(later(&source, 1).unwrap(), "ROTATED");
    }

    #[test]
    fn a_file_replaced_by_renaming_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        fs::write(&path, GOOD).unwrap();
        let source = profile(&path, "default");
        let new = folder.path().join("new");
        fs::write(&new, GOOD.replace("AKID1", "AKID9")).unwrap();
        fs::rename(&new, &path).unwrap();
        assert_eq!(later(&source, 2).unwrap(), "AKID9");
    }

    #[test]
    fn the_last_good_keys_stay_while_the_file_is_broken_and_the_error_is_told() {
        let file = written(GOOD);
        let source = profile(file.path(), "default");
        fs::write(file.path(), "[default\nsecret-in-here").unwrap();
        assert_eq!(later(&source, 1).unwrap(), "AKID1");
        let error = source.last_error().unwrap().to_string();
        assert!(error.contains("is not an INI file (line "), "{error}");
        assert!(!error.contains("secret-in-here"), "{error}");

        fs::remove_file(file.path()).unwrap();
        assert_eq!(later(&source, 2).unwrap(), "AKID1");
        assert!(source.last_error().unwrap().to_string().contains("cannot be read"));

        fs::write(file.path(), GOOD.replace("AKID1", "MENDED")).unwrap();
        assert_eq!(later(&source, 3).unwrap(), "MENDED");
        assert_eq!(source.last_error(), None);
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let file = written(GOOD);
        let source = profile(file.path(), "default");
        assert!(!format!("{source:?}").contains("se/cr+et"));
    }
}
