//! What callers are told when something is refused: the only place where error numbers are chosen.

use fuser::Errno;

use crate::host::RefusalKind;
use crate::view::ViewError;
use crate::waiting::Interruption;

impl From<&ViewError> for Errno {
    fn from(error: &ViewError) -> Self {
        match error {
            ViewError::Gone => Self::ENOENT,
            ViewError::NotADirectory => Self::ENOTDIR,
            ViewError::NotALink => Self::EINVAL,
            ViewError::Log(_) | ViewError::Output(_) | ViewError::Manifest(_) | ViewError::Terminal => {
                Self::EIO
            }
        }
    }
}

impl From<RefusalKind> for Errno {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::Invalid => Self::EINVAL,
            RefusalKind::Gone => Self::ENOENT,
            RefusalKind::WrongState => Self::EBUSY,
            RefusalKind::NoRoom => Self::EAGAIN,
            RefusalKind::StorageFull => Self::ENOSPC,
            RefusalKind::Failed => Self::EIO,
        }
    }
}

impl From<Interruption> for Errno {
    fn from(interruption: Interruption) -> Self {
        match interruption {
            Interruption::Signal => Self::EINTR,
            Interruption::WouldWait => Self::EAGAIN,
            Interruption::Unmounted => Self::ENODEV,
            // A process whose signals cannot be seen could never be let go.
            Interruption::Unseen => Self::EOPNOTSUPP,
        }
    }
}
