// What every page gets. Without it each page is whole, but does not change by itself.
import { copyOnClick } from "./copy.js";
import { live } from "./live.js";
import { keepTime } from "./time.js";
import { waterfall } from "./waterfall.js";

document.documentElement.classList.remove("no-js");
copyOnClick(document.querySelector("#said"));
keepTime();
waterfall();
live(document.querySelector("main"), document.querySelector("#lost"));
