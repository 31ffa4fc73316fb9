// Express 4, installed beside 5 under this name. It is typed as 5, so that one spec can loop over both.
declare module 'express4' {
  import express = require('express');
  export = express;
}
