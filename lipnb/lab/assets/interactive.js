"use strict";
  var root = document.getElementById("__ID__");
  if (!root || root.dataset.ready) { return; }
  root.dataset.ready = "yes";
  function part(selector) { return root.querySelector(selector); }
  function control(name) { return document.getElementById("__ID__-" + name); }
  function number(name) { return parseFloat(control(name).value); }
