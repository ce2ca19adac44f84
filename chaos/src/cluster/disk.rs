//! A small disk of a region's own: a tmpfs, which takes root.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// Room for some minutes of load, and soon filled.
const MIB: u64 = 64;
const BALLAST: &str = "ballast";

/// A mounted tmpfs. Dropped, it is gone with all that is on it.
#[derive(Debug)]
pub(super) struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts one.
    pub(super) fn mount(at: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(at).with_context(|| format!("cannot make {}", at.display()))?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={MIB}m,mode=700"))
            .arg("whimbrel-chaos")
            .arg(at)
            .output()
            .context("there is no program `mount`")?;
        anyhow::ensure!(
            mounted.status.success(),
            "cannot mount a tmpfs: {}",
            String::from_utf8_lossy(&mounted.stderr).trim()
        );
        Ok(Self { at: at.to_owned() })
    }

    /// Takes all room that is left. How many bytes that was.
    pub(super) fn fill(&self) -> anyhow::Result<u64> {
        let path = self.at.join(BALLAST);
        let mut file =
            File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let mut written = 0;
        // First in large pieces, then to the last page.
        for piece in [vec![0_u8; 1 << 20], vec![0_u8; 4096]] {
            loop {
                match file.write(&piece) {
                    Ok(0) => break,
                    Ok(count) => written += count as u64,
                    Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("cannot fill the disk"),
                }
            }
        }
        Ok(written)
    }

    /// Bytes that are free.
    pub(super) fn free_bytes(&self) -> anyhow::Result<u64> {
        let stat = rustix::fs::statvfs(&self.at).context("cannot look at the disk")?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Gives the room back.
    pub(super) fn free(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.at.join(BALLAST)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("cannot free the disk")
            }
            _ => Ok(()),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that still has files open there does not keep it mounted.
        let unmounted = Command::new("umount").arg("-l").arg(&self.at).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!(
                "whimbrel-chaos: cannot unmount {0}; do so with `umount -l {0}`",
                self.at.display()
            );
        }
    }
}
