// The scripts of every page. Without them a page is complete, but does not update itself.
import { copyOnClick } from "./copy.js";
import { live } from "./live.js";
import { startClock } from "./time.js";

copyOnClick(document.querySelector("#toast"));
startClock();
live(document.querySelector("main"), document.querySelector("#connection-lost"), document.querySelector("#pause"));
