//! Why a call of the program failed, and what the user can do about it.

use crate::client::CallError;

/// A failed call: exit code 1 unless it says otherwise.
#[derive(Debug)]
pub enum Failure {
    /// The command line makes no sense; usage of the command is shown as well.
    Usage(String),
    /// The control plane could not be asked, or refused.
    Call {
        /// What was being done, with its colon: `failed to list Mesh: `; dropped where the server says it itself.
        doing: String,
        /// What happened.
        error: CallError,
    },
    /// Anything else.
    Other(String),
    /// Everything has been said; only the exit code is left.
    Told(u8),
}

impl Failure {
    /// Anything that can say what it is.
    pub fn other(reason: impl std::fmt::Display) -> Self {
        Self::Other(reason.to_string())
    }

    /// A call that failed while something was done: `failed to list Mesh`.
    pub fn doing(what: impl std::fmt::Display) -> impl FnOnce(CallError) -> Self {
        move |error| Self::Call { doing: format!("{what}: "), error }
    }

    /// The exit code of the program.
    pub fn exit_code(&self) -> u8 {
        if let Self::Told(code) = self { *code } else { 1 }
    }

    /// The text after `Error: `, if there is anything left to say.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Usage(text) | Self::Other(text) => Some(text.clone()),
            Self::Call { error: error @ CallError::Refused(_), .. } => Some(error.to_string()),
            Self::Call { doing, error } => Some(format!("{doing}{error}")),
            Self::Told(_) => None,
        }
    }

    /// What to try next; for people, so it is only said on a terminal.
    pub fn advice(&self) -> Option<&'static str> {
        let Self::Call { error, .. } = self else { return None };
        match error {
            CallError::Unreachable(_) => Some(
                "Is the control plane running, and is this its address? `kumactl config control-planes list` shows where \
                 kumactl looks; `kumactl config control-planes add --name NAME --address URL` adds another.",
            ),
            CallError::TimedOut(_) => Some("The control plane was too slow: `--api-timeout 5m` waits longer."),
            CallError::Refused(refusal) => match refusal.status {
                401 => Some(
                    "The token is not valid here: add the control plane again with `--auth-type tokens --auth-conf \
                     token=TOKEN`.",
                ),
                403 => Some(
                    "This user may not do that. A token of an admin is added with `kumactl config control-planes add \
                     --auth-type tokens --auth-conf token=TOKEN`.",
                ),
                404 if refusal.title == "Failed to retrieve Mesh" => {
                    Some("`kumactl get meshes` lists the meshes; `--mesh NAME` chooses one.")
                }
                _ => None,
            },
            CallError::Status(..) | CallError::Unreadable(_) | CallError::NoControlPlane(_) => None,
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::Call { doing: String::new(), error }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // Whoever read our output has seen enough.
        if error.kind() == std::io::ErrorKind::BrokenPipe { Self::Told(0) } else { Self::other(error) }
    }
}
