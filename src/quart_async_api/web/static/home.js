// The first page works without this; with it, its calls answer in place.

import { wireAtOnce } from "./at_once.js";
import { wireCall } from "./call.js";

for (const section of document.querySelectorAll(".race")) wireAtOnce(section);
for (const card of document.querySelectorAll(".call")) wireCall(card);
