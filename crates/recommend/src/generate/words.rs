//! The words of the shop.

pub(super) const COUNTRIES: [&str; 8] = ["BR", "DE", "FR", "IN", "JP", "NG", "PL", "US"];

pub(super) const NOUNS: [&str; 32] = [
    "Camera",
    "Lamp",
    "Bicycle",
    "Kettle",
    "Guitar",
    "Tent",
    "Backpack",
    "Novel",
    "Puzzle",
    "Chair",
    "Keyboard",
    "Drill",
    "Telescope",
    "Skillet",
    "Jacket",
    "Sneaker",
    "Watch",
    "Speaker",
    "Monitor",
    "Printer",
    "Blender",
    "Yoga Mat",
    "Paint Set",
    "Fishing Rod",
    "Aquarium",
    "Planter",
    "Violin",
    "Board Game",
    "Atlas",
    "Cookbook",
    "Headphone",
    "Drone",
];

pub(super) const MODIFIERS: [&str; 32] = [
    "Outdoor",
    "Vintage",
    "Smart",
    "Travel",
    "Kids",
    "Studio",
    "Garden",
    "Winter",
    "Marine",
    "Urban",
    "Pocket",
    "Office",
    "Alpine",
    "Classic",
    "Solar",
    "Folding",
    "Racing",
    "Rustic",
    "Nordic",
    "Desert",
    "Coastal",
    "Forest",
    "Retro",
    "Mini",
    "Heavy Duty",
    "Silent",
    "Wireless",
    "Handmade",
    "Eco",
    "Luxury",
    "Training",
    "Festival",
];

pub(super) const ADJECTIVES: [&str; 16] = [
    "Compact", "Bright", "Sturdy", "Quiet", "Light", "Rapid", "Golden", "Northern", "Clever", "Gentle",
    "Bold", "Royal", "Simple", "Wild", "Crystal", "Hidden",
];

pub(super) const TAGS: [&str; 24] = [
    "new",
    "sale",
    "gift",
    "recycled",
    "waterproof",
    "portable",
    "limited",
    "bestseller",
    "beginner",
    "professional",
    "family",
    "rechargeable",
    "ceramic",
    "leather",
    "steel",
    "wooden",
    "cotton",
    "glass",
    "carbon",
    "bamboo",
    "wool",
    "titanium",
    "copper",
    "paper",
];

const SYLLABLES: [&str; 16] =
    ["ba", "do", "fe", "ga", "hi", "ka", "lo", "mi", "nu", "pa", "ri", "so", "ta", "ve", "wa", "zo"];

/// A coined name of three syllables.
pub(super) fn coined(number: u64) -> String {
    let syllable = |shift: u32| SYLLABLES[(number >> shift & 15) as usize];
    let name = [syllable(0), syllable(4), syllable(8)].concat();
    name[..1].to_uppercase() + &name[1..]
}
