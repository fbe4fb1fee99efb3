//! The GUID partition table with its protective MBR (UEFI specification, chapter 5).

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::segment::Layout;

/// Bytes per logical sector.
pub(crate) const SECTOR: u64 = 512;
/// Number of slots in the table.
const SLOTS: usize = 128;
/// Bytes per slot.
const SLOT: usize = 128;
/// Sectors that the table takes, without its header.
const TABLE_SECTORS: u64 = (SLOTS * SLOT) as u64 / SECTOR;

/// Type of the partition that holds GRUB's core image on BIOS machines.
pub(crate) const BIOS_BOOT: Uuid = Uuid::from_u128(0x2168_6148_6449_6E6F_744E_6565_6445_4649);
/// Type of an EFI system partition.
pub(crate) const EFI_SYSTEM: Uuid = Uuid::from_u128(0xC12A_7328_F81F_11D2_BA4B_00A0_C93E_C93B);
/// Type of a root file system for x86-64 (Discoverable Partitions Specification).
pub(crate) const LINUX_ROOT_X86_64: Uuid =
    Uuid::from_u128(0x4F68_BCE3_E8CD_4DB1_96E7_FBCA_F984_B709);

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its type.
    pub type_id: Uuid,
    /// Its own identifier (PARTUUID).
    pub id: Uuid,
    /// First byte; a multiple of 512.
    pub start: u64,
    /// Length in bytes; a multiple of 512.
    pub len: u64,
    /// Name, at most 36 UTF-16 units.
    pub name: String,
}

/// Places protective MBR, primary and backup table on a disk of `layout.size` bytes.
///
/// `boot_code` (at most 440 bytes) goes into the first sector.
pub(crate) fn place(
    layout: &mut Layout,
    disk_id: Uuid,
    partitions: &[Partition],
    boot_code: &[u8],
) -> Result<()> {
    let sectors = layout.size / SECTOR;
    let first_usable = 2 + TABLE_SECTORS;
    let last_usable = sectors.saturating_sub(TABLE_SECTORS + 2);
    if partitions.len() > SLOTS || boot_code.len() > 440 {
        return Err(Error::Spec("too many partitions or too much boot code for a GPT".into()));
    }
    let mut table = vec![0u8; SLOTS * SLOT];
    for (partition, slot) in partitions.iter().zip(table.chunks_exact_mut(SLOT)) {
        let first = partition.start / SECTOR;
        let last = (partition.start + partition.len) / SECTOR - 1;
        if first < first_usable || last > last_usable {
            return Err(Error::TooSmall {
                what: "the partition table",
                needed: (last + TABLE_SECTORS + 2) * SECTOR,
                available: layout.size,
            });
        }
        slot[0..16].copy_from_slice(&partition.type_id.to_bytes_le());
        slot[16..32].copy_from_slice(&partition.id.to_bytes_le());
        slot[32..40].copy_from_slice(&first.to_le_bytes());
        slot[40..48].copy_from_slice(&last.to_le_bytes());
        for (unit, place) in
            partition.name.encode_utf16().take(36).zip(slot[56..].chunks_exact_mut(2))
        {
            place.copy_from_slice(&unit.to_le_bytes());
        }
    }
    let table_crc = crc32fast::hash(&table);
    let header = |own: u64, other: u64, table_at: u64| {
        let mut header = vec![0u8; SECTOR as usize];
        header[0..8].copy_from_slice(b"EFI PART");
        header[8..12].copy_from_slice(&0x0001_0000u32.to_le_bytes());
        header[12..16].copy_from_slice(&92u32.to_le_bytes());
        header[24..32].copy_from_slice(&own.to_le_bytes());
        header[32..40].copy_from_slice(&other.to_le_bytes());
        header[40..48].copy_from_slice(&first_usable.to_le_bytes());
        header[48..56].copy_from_slice(&last_usable.to_le_bytes());
        header[56..72].copy_from_slice(&disk_id.to_bytes_le());
        header[72..80].copy_from_slice(&table_at.to_le_bytes());
        header[80..84].copy_from_slice(&(SLOTS as u32).to_le_bytes());
        header[84..88].copy_from_slice(&(SLOT as u32).to_le_bytes());
        header[88..92].copy_from_slice(&table_crc.to_le_bytes());
        let crc = crc32fast::hash(&header[..92]);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        header
    };
    let last = sectors - 1;
    let mut front = vec![0u8; SECTOR as usize];
    front[..boot_code.len()].copy_from_slice(boot_code);
    // One protective entry over the whole disk, as far as 32 bits reach.
    let entry = &mut front[446..462];
    entry[1..4].copy_from_slice(&[0x00, 0x02, 0x00]);
    entry[4] = 0xEE;
    entry[5..8].copy_from_slice(&[0xFF, 0xFF, 0xFF]);
    entry[8..12].copy_from_slice(&1u32.to_le_bytes());
    let covered = u32::try_from(last).unwrap_or(u32::MAX);
    entry[12..16].copy_from_slice(&covered.to_le_bytes());
    front[510..512].copy_from_slice(&[0x55, 0xAA]);
    front.extend(header(1, last, 2));
    front.extend(&table);
    layout.put(0, front);
    let mut back = table;
    back.extend(header(last, 1, last - TABLE_SECTORS));
    layout.put((last - TABLE_SECTORS) * SECTOR, back);
    Ok(())
}
